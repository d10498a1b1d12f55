// Trains a tiny model on a mesh of ranks and gathers on every rank what the tests compare afterwards. No tests here.
#pragma once

#include <mpi.h>

#include <cstring>

#include "parallel/host_group.h"
#include "tests/support/tiny_model.h"
#include "train/plan.h"

namespace longlora::mesh_testing {

using namespace model_testing;

struct Training {
    ModelConfig config = tiny_config();
    TrainableSet trainables = all_adapters();
    AttentionPattern pattern{AttentionKind::shifted, 6};
    std::int64_t context = 19, global_batch = 3, micro_batch = 1;
    bool documents = false;  ///< several documents in a sequence; false: one, as a plan assumes
    std::vector<std::vector<std::int64_t>> other_starts{};  ///< where they begin, if not as document_starts() says
    bool keep_all = false, keep_halo = true;
    DType real = DType::float32;
    std::int64_t max_message = 2147483647;

    StepOptions options() const {
        StepOptions o;
        o.global_batch = global_batch;
        o.micro_batch = micro_batch;
        o.document_mask = documents;
        o.optimizer.lr = o.optimizer.lr_embedding = o.optimizer.lr_norm = 1e-2;
        // Far below most gradients, and far above their rounding errors: the rounding error of a gradient near zero
        // must not decide the sign of a whole update.
        o.optimizer.eps = 1e-4;
        return o;
    }
    ActivationPlan activations() const {
        ActivationPlan plan = keep_all ? keep_everything(config) : keep_nothing(config);
        for (KeptActivations& layer : plan) layer.halo = keep_halo;
        return plan;
    }
    /// Where documents begin in each sequence of the global batch.
    std::vector<std::vector<std::int64_t>> document_starts() const {
        if (!other_starts.empty()) return other_starts;
        std::vector<std::vector<std::int64_t>> starts;
        for (std::int64_t i = 0; i < global_batch; ++i)
            starts.push_back(documents ? std::vector<std::int64_t>{0, 1 + i, 8 + 2 * i} : std::vector<std::int64_t>{0});
        return starts;
    }
    /// The tokens of all sequences of a step, one after another.
    std::vector<std::int32_t> tokens(std::int64_t step) const {
        return random_tokens(global_batch * context, static_cast<std::uint64_t>(step));
    }
    /// The sequences of a step that belong to this rank's place in the mesh, with the rank's own tokens of each.
    Batch sequences(std::int64_t step, const parallel::MeshCommunicators& mesh, parallel::Shard own_tokens) const {
        const parallel::Shard share = parallel::even_share_of(global_batch, mesh.at.data, mesh.shape.data);
        const auto all = tokens(step);
        const auto starts = document_starts();
        const std::span<const std::int32_t> own = std::span(all).subspan(
            static_cast<std::size_t>(share.begin * context), static_cast<std::size_t>(share.count * context));
        Batch batch = make_batch(own, context, own_tokens,
                                 {starts.begin() + share.begin, starts.begin() + share.begin + share.count});
        batch.num_predictions = 0;
        for (const auto& one : starts) batch.num_predictions += num_predictions(context, one);
        return batch;
    }
    PlanRequest plan_request(parallel::MeshShape shape, int zero, int rank) const {
        PlanRequest request;
        request.config = config;
        request.trainables = trainables;
        request.weights.real = request.weights.frozen = real;
        request.weights.zero = zero;
        request.pattern = pattern;
        request.context = context;
        request.step = options();
        request.mesh = shape;
        request.rank = rank;
        request.own_bytes = kOnGpu ? cuda_own_bytes() : 0;
        return request;
    }
};

/// This rank's communicators, and its part of the model.
struct MeshFixture {
    std::unique_ptr<Device> device;
    parallel::MeshCommunicators mesh;
    std::unique_ptr<Weights> weights;
    std::unique_ptr<Model> model;

    MeshFixture(const Training& t, MPI_Comm comm, parallel::MeshShape shape, int zero) {
        device = make_test_device();
        mesh = parallel::make_mesh(*device, comm, shape, {.max_message = t.max_message});
        device->set_progress([this] { mesh.progress(); });
        WeightsOptions how;
        how.real = how.frozen = t.real;
        how.zero = zero;
        how.data = mesh.data.get();
        const auto stages = stages_of(t.config, shape.pipeline, t.pattern, t.context);
        weights = std::make_unique<Weights>(*device, t.config, t.trainables, how,
                                            stages[static_cast<std::size_t>(mesh.at.pipeline)]);
        fill_lively(*weights);
        model = std::make_unique<Model>(*weights, t.pattern, t.context, mesh.sequence.get());
    }
};

/// Gathers whole tensors by name on every rank. Each rank sends the parts for which it alone answers
/// (Weights::sole_parts). flat(unit) is this rank's flat buffer of the unit.
template <class Flat> Values gather(const Weights& weights, MPI_Comm comm, Flat&& flat) {
    std::string bytes;
    const auto put = [&](const void* data, std::size_t size) { bytes.append(static_cast<const char*>(data), size); };
    const ParameterList whole = list_parameters(weights.config(), weights.trainables());
    for (const auto& part : weights.sole_parts()) {
        const std::vector<float> own = read(weights.device(), flat(part.parameter->unit));
        const auto index = static_cast<std::int64_t>(&whole.find(part.parameter->name) - whole.parameters.data());
        for (const std::int64_t number : {index, part.in_parameter.begin, part.in_parameter.count})
            put(&number, sizeof number);
        put(own.data() + part.in_own, static_cast<std::size_t>(part.in_parameter.count) * sizeof(float));
    }
    Values values;
    for (const auto& p : whole.parameters)
        if (p.trainable)  // NaN: a comparison fails where no rank sends an element
            values[p.name].assign(static_cast<std::size_t>(p.shape.count()), std::nanf(""));
    const parallel::HostGroup group(comm);
    for (const std::string& other : group.all_gather(bytes))
        for (std::size_t at = 0; at < other.size();) {
            std::int64_t header[3];
            std::memcpy(header, other.data() + at, sizeof header);
            at += sizeof header;
            std::memcpy(values.at(whole.parameters[static_cast<std::size_t>(header[0])].name).data() + header[1],
                        other.data() + at, static_cast<std::size_t>(header[2]) * sizeof(float));
            at += static_cast<std::size_t>(header[2]) * sizeof(float);
        }
    return values;
}

struct Outcome {
    Values first_gradients, initial, trained;
    std::vector<double> losses, norms;
    std::vector<std::map<std::string, parallel::Traffic>> traffic;  ///< this rank's messages in each step, by axis
    std::int64_t arena_bytes = 0;
    double flops = 0;  ///< FLOPs of the last step on this rank
};

inline Outcome train(const Training& t, MPI_Comm comm, parallel::MeshShape shape, int zero, std::int64_t steps) {
    MeshFixture f(t, comm, shape, zero);
    const StepScalars scalars(*f.device);
    const ActivationPlan activations = t.activations();
    Outcome out;
    const auto masters = [&](std::int64_t unit) { return f.weights->own_master(unit); };
    out.initial = gather(*f.weights, comm, masters);
    step_gradients(*f.model, f.mesh, scalars, t.sequences(1, f.mesh, f.model->own_tokens()), t.options(), activations);
    out.first_gradients = gather(*f.weights, comm, [&](std::int64_t unit) { return f.weights->own_gradient(unit); });
    for (std::int64_t step = 1; step <= steps; ++step) {
        f.device->recorder().clear();
        const auto before = f.mesh.traffic();
        const StepResult result =
            train_step(*f.model, f.mesh, scalars, t.sequences(step, f.mesh, f.model->own_tokens()), t.options(),
                       activations, step, 1);
        BOOST_CHECK(result.finite);
        out.losses.push_back(result.loss);
        out.norms.push_back(result.grad_norm);
        out.traffic.push_back(f.mesh.traffic());
        for (auto& [axis, sent] : out.traffic.back()) sent -= before.at(axis);
    }
    out.arena_bytes = f.device->memory().high_water_bytes();
    out.flops = f.device->recorder().flops();
    out.trained = gather(*f.weights, comm, masters);
    return out;
}

inline int size_of_world() {
    int size = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}
inline int rank_of_world() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

/// All meshes of the ranks that run this test, with at most `most_stages` pipeline stages.
inline std::vector<parallel::MeshShape> meshes_of_world(int most_stages) {
    std::vector<parallel::MeshShape> all;
    const int ranks = size_of_world();
    for (int pipeline = 1; pipeline <= std::min(ranks, most_stages); ++pipeline)
        for (int sequence = 1; sequence <= ranks; ++sequence)
            if (ranks % (pipeline * sequence) == 0) all.push_back({pipeline, ranks / (pipeline * sequence), sequence});
    return all;
}

inline std::string text_of(parallel::MeshShape shape, int zero) {
    return text("pipeline ", shape.pipeline, " x data ", shape.data, " x sequence ", shape.sequence, ", ZeRO ", zero);
}

}  // namespace longlora::mesh_testing
