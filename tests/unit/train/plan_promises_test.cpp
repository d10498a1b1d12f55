// What a plan promises for a mesh before a run: the activations that --recompute auto keeps fit in every micro-batch of
// the step, documents take no more memory than a plan without them, and messages are counted for the unit whose weights
// or gradients they carry.
#include <boost/test/unit_test.hpp>
#include <numeric>

#include "tests/support/tiny_model.h"
#include "train/plan.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

/// A model that is mostly embedding, so that the embedding's gradients under way are noticed.
PlanRequest request_of(parallel::MeshShape mesh, int zero, std::int64_t global_batch) {
    PlanRequest request;
    request.config = tiny_config();
    request.config.num_layers = 4, request.config.hidden = 96, request.config.head_dim = 32,
    request.config.vocabulary = 5003;
    request.trainables = all_adapters();
    request.weights.zero = zero;
    request.pattern = {AttentionKind::shifted, 16};
    request.context = 256;
    request.mesh = mesh;
    request.step.global_batch = global_batch;
    return request;
}

struct Used {
    std::int64_t peak = 0;  ///< bytes in use, without gaps
    std::map<int, parallel::Traffic> data;
};

/// Memory and traffic of a step with these documents in every sequence, on the device that computes nothing.
Used use_of(const PlanRequest& request, const std::vector<std::int64_t>& documents) {
    const auto device = make_plan_device();
    auto mesh = parallel::make_plan_mesh(*device, request.mesh, request.rank);
    WeightsOptions how = request.weights;
    how.data = mesh.data.get();
    Weights weights(*device, request.config, request.trainables, how, stage_of(request, request.rank));
    Model model(weights, request.pattern, request.context, mesh.sequence.get());
    const StepScalars scalars(*device);
    const std::int64_t sequences =
        parallel::even_share_of(request.step.global_batch, mesh.at.data, mesh.shape.data).count;
    Batch local;
    local.tokens.resize(static_cast<std::size_t>(sequences * model.own_tokens().count));
    local.labels = local.tokens;
    local.document_starts.resize(static_cast<std::size_t>(sequences), documents);
    local.num_predictions = request.step.global_batch * num_predictions(request.context, documents);
    train_step(model, mesh, scalars, local, request.step, keep_nothing(request.config), 1, 1);
    const auto at_peak = device->memory().at_peak();
    return {std::accumulate(at_peak.begin(), at_peak.end(), std::int64_t{0}), mesh.data->traffic_by_unit()};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_promises)

BOOST_AUTO_TEST_CASE(kept_activations_fit_in_every_micro_batch) {
    for (const parallel::MeshShape mesh : {parallel::MeshShape{1, 2, 1}, {1, 1, 2}, {2, 1, 2}, {2, 2, 1}, {3, 1, 1}})
        for (const int zero : {0, 2, 3})
            for (const std::int64_t micro_batches : {2, 5}) {
                // With several data ranks, one of them has one sequence less.
                PlanRequest request = request_of(mesh, zero, micro_batches * mesh.data - (mesh.data > 1));
                for (request.rank = 0; request.rank < mesh.num_ranks(); ++request.rank) {
                    const std::int64_t least = plan_step(request, keep_nothing(request.config)).arena_bytes,
                                       most = plan_step(request, keep_everything(request.config)).arena_bytes;
                    for (std::int64_t percent = 5; percent <= 100; percent += 19) {
                        const std::int64_t memory = least + (most - least) * percent / 100;
                        ActivationPlan activations;
                        try {
                            activations = choose_activations(request, "auto", memory);
                        } catch (const Error&) {  // other ranks need more than this one
                            continue;
                        }
                        BOOST_CHECK_MESSAGE(plan_step(request, activations).arena_bytes <= memory,
                                            "rank " << request.rank << " of " << mesh.pipeline << " x " << mesh.data
                                                    << " x " << mesh.sequence << ", ZeRO " << zero << ", "
                                                    << micro_batches << " micro-batches, " << percent << " %: "
                                                    << plan_step(request, activations).arena_bytes << " of " << memory);
                    }
                }
            }
}

/// With short documents the pieces of dense attention are as small as the halo of S2. As planned, they are nevertheless
/// sent again and not kept by every layer.
BOOST_AUTO_TEST_CASE(documents_take_no_more_memory_than_planned) {
    for (const AttentionPattern pattern :
         {AttentionPattern{AttentionKind::dense, 0}, {AttentionKind::sliding, 120}, {AttentionKind::shifted, 32}})
        for (int rank = 0; rank < 2; ++rank) {
            PlanRequest request = request_of({1, 1, 2}, 0, 1);
            request.config.num_layers = 12, request.config.vocabulary = 50;
            request.context = 4096;
            request.pattern = pattern;
            request.step.document_mask = true;
            request.rank = rank;
            const std::int64_t planned = use_of(request, {0}).peak;
            for (const std::int64_t begin : {600, 1000, 2000})
                BOOST_CHECK_LE(use_of(request, {0, begin}).peak, planned);
        }
}

/// ZeRO 2: the gradients of a unit are sent to their owners, and its updated weights to every rank.
BOOST_AUTO_TEST_CASE(messages_are_counted_for_the_unit_they_carry) {
    constexpr std::int64_t kRanks = 4, kMicroBatches = 3;
    PlanRequest request = request_of({1, kRanks, 1}, 2, kRanks * kMicroBatches);
    for (request.rank = 0; request.rank < kRanks; ++request.rank) {
        const auto units = list_parameters(request.config, request.trainables).units;
        const Used used = use_of(request, {0});
        for (std::size_t unit = 0; unit < units.size(); ++unit) {
            const std::int64_t count = units[unit].trainable_count,
                               own = parallel::shard_of(count, request.rank, kRanks).count;
            BOOST_CHECK_EQUAL(used.data.at(static_cast<int>(unit)).bytes,
                              4 * (kMicroBatches * (count - own) + (kRanks - 1) * own));
        }
        BOOST_CHECK_EQUAL(used.data.at(-1).bytes, (kRanks - 1) * 2 * 8);  // loss and norm
    }
}

BOOST_AUTO_TEST_SUITE_END()
