// Data parallel training on as many ranks as mpirun started, against one rank: losses of three steps within 5e-5, gradients within 1e-5, a global batch that divides by
// nothing, ranks without a sequence; the same mesh twice gives the same bits; messages, bytes, memory and FLOPs are exactly what the plan says.
#include <mpi.h>

#include <boost/test/unit_test.hpp>

#include "tests/support/tiny_model.h"
#include "train/plan.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

constexpr std::int64_t kContext = 19, kSteps = 3;

struct Training {
    TrainableSet trainables;
    std::int64_t global_batch = 7, micro_batch = 2;
    DType real = DType::float32;
    bool documents = true;   ///< false: one per sequence, as a plan assumes

    AttentionPattern pattern() const { return {AttentionKind::shifted, 6}; }
    StepOptions options() const {
        StepOptions o;
        o.global_batch = global_batch;
        o.micro_batch = micro_batch;
        o.document_mask = true;
        o.optimizer.lr = o.optimizer.lr_embedding = o.optimizer.lr_norm = 1e-2;
        return o;
    }
    /// This rank's share of a step's sequences.
    LocalSequences sequences(std::int64_t step, int rank, int ranks) const {
        const dist::Shard share = dist::deal_of(global_batch, rank, ranks);
        const auto all = random_tokens(global_batch * kContext, static_cast<std::uint64_t>(step));
        LocalSequences local;
        local.tokens.assign(all.begin() + share.begin * kContext, all.begin() + (share.begin + share.count) * kContext);
        for (std::int64_t i = 0; i < share.count; ++i) local.document_starts.push_back(documents ? std::vector<std::int64_t>{0, 1 + share.begin + i} : std::vector<std::int64_t>{0});
        return local;
    }
};

struct Outcome {
    Values first_gradients, trained;
    std::vector<double> losses, norms;
    std::vector<dist::Traffic> traffic;   ///< of each step on this rank
    std::int64_t arena_bytes = 0;
    double flops = 0;   ///< of the last step
};

Outcome train(const Training& t, MPI_Comm comm) {
    TinyFixture f(t.trainables, t.pattern(), kContext, {.real = t.real});
    const auto data = dist::make_mpi_communicator(*f.device, comm);
    const StepScalars scalars(*f.device);
    const KeepPlan keep = keep_everything(f.model->config());
    Outcome out;
    step_gradients(*f.model, *data, scalars, t.sequences(1, data->rank(), data->size()), t.options(), keep);
    out.first_gradients = gradients_of(*f.weights);
    for (std::int64_t step = 1; step <= kSteps; ++step) {
        f.device->recorder().clear();
        const dist::Traffic before = data->traffic();
        const StepResult result = train_step(*f.model, *data, scalars, t.sequences(step, data->rank(), data->size()), t.options(), keep, step, 1);
        BOOST_CHECK(result.finite);
        out.losses.push_back(result.loss);
        out.norms.push_back(result.grad_norm);
        out.traffic.push_back({data->traffic().bytes - before.bytes, data->traffic().messages - before.messages});
    }
    out.arena_bytes = f.device->memory().high_water_bytes();
    out.flops = f.device->recorder().flops();
    out.trained = parameters_of(*f.weights);
    return out;
}

int rank_of_world() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}
int size_of_world() {
    int size = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

/// Every rank holds the same bits.
void check_same_everywhere(const Values& values) {
    for (const auto& [name, mine] : values) {
        std::vector<float> first = mine;
        MPI_Bcast(first.data(), static_cast<int>(first.size()), MPI_FLOAT, 0, MPI_COMM_WORLD);
        BOOST_CHECK_MESSAGE(first == mine, name << " differs from rank 0's");
    }
}

void check_against_one_rank(const Training& t) {
    const Outcome together = train(t, MPI_COMM_WORLD), alone = train(t, MPI_COMM_SELF);
    for (std::size_t step = 0; step < kSteps; ++step) {
        BOOST_CHECK_LE(std::abs(together.losses[step] - alone.losses[step]), 5e-5 * alone.losses[step]);
        BOOST_CHECK_LE(std::abs(together.norms[step] - alone.norms[step]), 5e-5 * alone.norms[step]);
    }
    BOOST_CHECK_GT(std::abs(alone.losses[2] - alone.losses[0]), 1e-3 * alone.losses[0]);   // something was learnt
    for (const auto& [name, gradient] : together.first_gradients) BOOST_TEST_CONTEXT(name) BOOST_CHECK_LE(relative_l2(gradient, alone.first_gradients.at(name)), 1e-5);
    check_same_everywhere(together.first_gradients);
    check_same_everywhere(together.trained);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(data_parallel)

BOOST_AUTO_TEST_CASE(as_one_rank) {
    for (const TrainableSet& trainables : {all_adapters(), all_weights()})
        for (const std::int64_t micro_batch : {1, 2}) check_against_one_rank({.trainables = trainables, .micro_batch = micro_batch});
}

BOOST_AUTO_TEST_CASE(ranks_without_a_sequence) {
    for (const std::int64_t global_batch : {1, 2, 3}) BOOST_TEST_CONTEXT("global batch " << global_batch) check_against_one_rank({.trainables = all_adapters(), .global_batch = global_batch});
}

BOOST_AUTO_TEST_CASE(the_same_mesh_twice_gives_the_same_bits) {
    for (const DType real : {DType::float32, DType::bfloat16}) {
        const Training t{.trainables = all_adapters(), .real = real};
        const Outcome a = train(t, MPI_COMM_WORLD), b = train(t, MPI_COMM_WORLD);
        BOOST_CHECK(a.losses == b.losses && a.norms == b.norms);
        BOOST_CHECK(a.first_gradients == b.first_gradients && a.trained == b.trained);
    }
}

BOOST_AUTO_TEST_CASE(the_plan_is_exact) {
    for (const TrainableSet& trainables : {all_adapters(), all_weights()})
        for (const std::int64_t global_batch : {1, 7, 8}) {
            const Training t{.trainables = trainables, .global_batch = global_batch, .documents = false};
            const Outcome used = train(t, MPI_COMM_WORLD);
            PlanRequest request;
            request.config = tiny_config();
            request.trainables = trainables;
            request.pattern = t.pattern();
            request.context = kContext;
            request.step = t.options();
            request.rank = rank_of_world(), request.ranks = size_of_world();
            const StepPlan plan = plan_step(request, keep_everything(request.config));
            BOOST_TEST_CONTEXT("rank " << request.rank << " of " << request.ranks << ", global batch " << global_batch) {
                for (const dist::Traffic& traffic : used.traffic) {
                    BOOST_CHECK_EQUAL(traffic.bytes, plan.traffic.bytes);
                    BOOST_CHECK_EQUAL(traffic.messages, plan.traffic.messages);
                }
                if (request.ranks > 1) BOOST_CHECK_GT(plan.traffic.bytes, 0);
                BOOST_CHECK_EQUAL(used.arena_bytes, plan.arena_bytes);
                BOOST_CHECK_EQUAL(used.flops, plan.flops);
            }
        }
}

BOOST_AUTO_TEST_SUITE_END()
