// The arena of a rank on a mesh against formulas that are written here independently: weights and optimizer state from
// parameter counts and ZeRO shards; kept activations and halos from the rank's tokens; pieces of dense attention and
// workspace, which do not depend on the number of ranks, the intermediate size and the vocabulary. The arena is that of
// the plan, which tests/mpi/mesh_training_test.cpp compares with real runs.
#include <boost/test/unit_test.hpp>
#include <numeric>

#include "tests/support/plain_model.h"
#include "tests/support/tiny_model.h"
#include "train/plan.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

using Bytes = std::array<std::int64_t, kNumUses>;
std::int64_t of(const Bytes& bytes, Use use) { return bytes[static_cast<std::size_t>(use)]; }

std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }
/// The bytes that the arena uses for `count` elements.
std::int64_t block(std::int64_t count, std::int64_t size) {
    return std::max<std::int64_t>(256, round_up(count * size, 256));
}

/// Head counts and sizes that no number of ranks divides.
ModelConfig odd_config(bool tied = false) {
    ModelConfig c = tiny_config(tied);
    c.hidden = 90, c.intermediate = 200, c.num_layers = 5, c.num_heads = 9, c.num_kv_heads = 3, c.head_dim = 32,
    c.vocabulary = 1003, c.max_positions = 8192;
    return c;
}
/// Narrow, with a small vocabulary: for long sequences the peak is in the backward of the last layer, whatever is kept.
ModelConfig attention_heavy_config() {
    ModelConfig c = odd_config(true);
    c.hidden = 24, c.intermediate = 40, c.vocabulary = 50;
    return c;
}

TrainableSet longlora_set() {
    TrainableSet set;
    set.lora_rank = 5;
    return set;
}
TrainableSet plain_lora() {
    TrainableSet set = longlora_set();
    set.method = Method::lora;
    return set;
}

PlanRequest request_of(const ModelConfig& config, std::int64_t context, parallel::MeshShape mesh, int zero,
                       DType real) {
    PlanRequest request;
    request.config = config;
    request.trainables = longlora_set();
    request.weights.real = request.weights.frozen = real;
    request.weights.zero = zero;
    request.pattern = {AttentionKind::shifted, 16};
    request.context = context;
    request.mesh = mesh;
    request.step.global_batch = 3 * mesh.data;  // more micro-batches than stages
    return request;
}

/// Elements of a unit's flat buffers: {trainable, frozen}.
struct Counts {
    std::int64_t trainable = 0, frozen = 0;
    void add(std::int64_t count, bool trained) { (trained ? trainable : frozen) += round_up(count, 64); }
};

Counts layer_counts(const ModelConfig& c, const TrainableSet& set) {
    const bool full = set.method == Method::full, norms = set.method != Method::lora;
    const std::int64_t D = c.hidden, F = c.intermediate, H = c.num_heads * c.head_dim, K = c.num_kv_heads * c.head_dim;
    Counts n;
    for (int norm = 0; norm < 2; ++norm) n.add(D, norms);
    for (const auto& [out, in] : {std::pair{H, D}, {K, D}, {K, D}, {D, H}}) {
        n.add(out * in, full);
        if (!full) n.add(set.lora_rank * in, true), n.add(out * set.lora_rank, true);
    }
    for (int projection = 0; projection < 3; ++projection) n.add(F * D, full);
    return n;
}

std::vector<Counts> unit_counts(const ModelConfig& c, const TrainableSet& set, const Stage& stage) {
    std::vector<Counts> units(static_cast<std::size_t>(c.num_layers + 2));
    const bool full = set.method == Method::full, more = set.method != Method::lora;
    if (stage.has_embedding || (stage.has_head && c.tied)) units.front().add(c.vocabulary * c.hidden, more);
    for (std::int64_t layer = stage.first_layer; layer < stage.first_layer + stage.num_layers; ++layer)
        units[static_cast<std::size_t>(layer + 1)] = layer_counts(c, set);
    if (!stage.has_head) return units;
    units.back().add(c.hidden, more);
    if (!c.tied) units.back().add(c.vocabulary * c.hidden, full);
    return units;
}

/// How many of `count` elements rank `rank` of `size` keeps, when ranks share them in equal chunks (the last chunks are
/// shorter or empty).
std::int64_t own(std::int64_t count, int rank, int size) {
    const std::int64_t chunk = (count + size - 1) / size;
    return std::clamp<std::int64_t>(count - chunk * rank, 0, chunk);
}

/// Weights and optimizer state of one rank.
Bytes state_bytes(const std::vector<Counts>& units, int zero, DType real, int rank, int size) {
    Bytes bytes{};
    const auto add = [&](Use use, std::int64_t count, std::int64_t element) {
        bytes[static_cast<std::size_t>(use)] += block(count, element);
    };
    const bool rounds = real == DType::bfloat16;
    if (size == 1) zero = 0;
    for (const auto& [trainable, frozen] : units) {
        if (frozen) add(Use::weights, zero == 3 ? own(frozen, rank, size) : frozen, size_of(real));
        if (!trainable) continue;
        const std::int64_t mine = zero ? own(trainable, rank, size) : trainable;
        if (rounds) add(Use::weights, zero == 3 ? mine : trainable, 2), add(Use::masters, mine, 4);
        else  // float32 weights are the masters, unless the buffer has weights of other ranks as well
            add(zero == 1 || zero == 2 ? Use::weights : Use::masters, zero == 3 ? mine : trainable, 4);
        for (int moment = 0; moment < 2; ++moment) add(Use::moments, mine, 4);
        add(Use::gradients, zero >= 2 ? mine : trainable, 4);
    }
    return bytes;
}

const parallel::MeshShape kMeshes[] = {{1, 1, 1}, {1, 1, 2}, {1, 1, 4}, {2, 1, 1}, {2, 1, 2},
                                       {2, 1, 4}, {1, 2, 2}, {2, 2, 1}, {2, 3, 2}};

std::string text_of(parallel::MeshShape shape, int zero, int rank, DType real) {
    return text("rank ", rank, " of pipeline ", shape.pipeline, " x data ", shape.data, " x sequence ", shape.sequence,
                ", ZeRO ", zero, ", ", name_of(real));
}

/// Calls each(mesh, zero, rank, real) for all of them.
template <class Each> void everywhere(const Each& each) {
    for (const parallel::MeshShape mesh : kMeshes)
        for (int zero = 0; zero <= 3; ++zero)
            for (const DType real : {DType::float32, DType::bfloat16})
                for (int rank = 0; rank < mesh.num_ranks(); ++rank)
                    BOOST_TEST_CONTEXT(text_of(mesh, zero, rank, real)) each(mesh, zero, rank, real);
}

int data_rank(parallel::MeshShape mesh, int rank) { return rank % (mesh.data * mesh.sequence); }

/// Bytes of the stage that outlive a layer's forward, as the difference between a model of 9 and a model of 6 layers.
struct PerLayer {
    std::int64_t layers = 0;  ///< additional layers of the stage in the larger model
    std::int64_t activations = 0, exchange = 0;
};
PerLayer per_layer(PlanRequest request, KeptActivations layer_kept) {
    StepPlan plans[2];
    std::int64_t layers[2];
    for (const int more : {0, 1}) {
        request.config.num_layers = more ? 9 : 6;
        plans[more] =
            plan_step(request, ActivationPlan(static_cast<std::size_t>(request.config.num_layers), layer_kept));
        layers[more] = stage_of(request, request.rank).num_layers;
    }
    const auto difference = [&](Use use) { return of(plans[1].by_use, use) - of(plans[0].by_use, use); };
    return {layers[1] - layers[0], difference(Use::activations), difference(Use::exchange)};
}

std::int64_t local_tokens(const PlanRequest& request) {
    const auto at = parallel::coordinate_of(request.mesh, request.rank);
    return request.context * (at.sequence + 1) / request.mesh.sequence -
           request.context * at.sequence / request.mesh.sequence;
}
/// The number of micro-batches between their forward and their backward (1F1B).
std::int64_t alive(const PlanRequest& request) {
    return request.mesh.pipeline - parallel::coordinate_of(request.mesh, request.rank).pipeline;
}

/// Tokens of other ranks that this rank's queries see in a layer, summed over K/V heads; from the definition of groups.
std::int64_t halo_tokens(const PlanRequest& request) {
    const ModelConfig& c = request.config;
    const auto at = parallel::coordinate_of(request.mesh, request.rank);
    const std::int64_t begin = request.context * at.sequence / request.mesh.sequence,
                       end = begin + local_tokens(request), group = c.num_heads / c.num_kv_heads;
    std::int64_t sum = 0;
    for (std::int64_t kv = 0; kv < c.num_kv_heads; ++kv) {
        std::int64_t first = begin;
        for (std::int64_t head = kv * group; head < (kv + 1) * group; ++head)
            for (std::int64_t t = begin; t < end; ++t)
                first = std::min(first, plain_window(request.pattern, 0, head >= c.num_heads / 2, t));
        sum += begin - first;
    }
    return sum;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(mesh_memory)

BOOST_AUTO_TEST_CASE(weights_and_optimizer_state) {
    TrainableSet full;
    full.method = Method::full;
    for (const TrainableSet& set : {longlora_set(), plain_lora(), full})
        for (const bool tied : {false, true})
            everywhere([&](parallel::MeshShape mesh, int zero, int rank, DType real) {
                PlanRequest request = request_of(odd_config(tied), 64, mesh, zero, real);
                request.trainables = set;
                const Stage stage = stage_of(request, rank);
                const auto device = make_plan_device();
                const auto lines = parallel::make_plan_mesh(*device, mesh, rank);
                request.weights.data = lines.data.get();
                const Weights weights(*device, request.config, set, request.weights, stage);
                const Bytes expected = state_bytes(unit_counts(request.config, set, stage), zero, real,
                                                   data_rank(mesh, rank), mesh.data * mesh.sequence);
                const Bytes used = device->memory().at_peak();
                for (const Use use : {Use::weights, Use::masters, Use::moments, Use::gradients})
                    BOOST_TEST_CONTEXT(name_of(use)) BOOST_CHECK_EQUAL(of(used, use), of(expected, use));
                BOOST_CHECK_EQUAL(device->memory().in_use_bytes(),
                                  std::accumulate(expected.begin(), expected.end(), std::int64_t{0}));
            });
}

/// During a step ZeRO 3 has at most two whole units of weights. ZeRO 2 and 3 have the whole gradients of at most two
/// units, and with tied weights those of the head's norm as well. No other weights or gradients are added.
BOOST_AUTO_TEST_CASE(a_step_adds_whole_units) {
    for (const bool tied : {false, true})
        everywhere([&](parallel::MeshShape mesh, int zero, int rank, DType real) {
            PlanRequest request = request_of(odd_config(tied), 64, mesh, zero, real);
            request.rank = rank;
            const auto units = unit_counts(request.config, request.trainables, stage_of(request, rank));
            const int ranks = mesh.data * mesh.sequence;
            const Bytes state = state_bytes(units, zero, real, data_rank(mesh, rank), ranks),
                        used = plan_step(request, keep_nothing(request.config)).by_use;
            const std::int64_t rotary = 2 * block(local_tokens(request) * request.config.head_dim / 2, 4);
            std::int64_t largest = 0, largest_gradient = 0;
            for (const auto& [trainable, frozen] : units) {
                largest = std::max(largest, block(trainable, size_of(real)) + block(frozen, size_of(real)));
                largest_gradient = std::max(largest_gradient, block(trainable, 4));
            }
            BOOST_CHECK_EQUAL(of(used, Use::masters), of(state, Use::masters));
            BOOST_CHECK_EQUAL(of(used, Use::moments), of(state, Use::moments));
            BOOST_CHECK_GE(of(used, Use::weights), of(state, Use::weights) + rotary);
            BOOST_CHECK_LE(of(used, Use::weights),
                           of(state, Use::weights) + rotary + (zero == 3 && ranks > 1 ? 2 * largest : 0));
            BOOST_CHECK_GE(of(used, Use::gradients), of(state, Use::gradients));
            BOOST_CHECK_LE(
                of(used, Use::gradients),
                of(state, Use::gradients) +
                    (zero >= 2 && ranks > 1 ? 2 * largest_gradient + tied * block(units.back().trainable, 4) : 0));
        });
}

/// Each layer keeps its input and the activations it is told to keep, for this rank's tokens of each micro-batch alive.
BOOST_AUTO_TEST_CASE(kept_activations) {
    const KeptActivations all{true, true, true, true},
        keeps[] = {{}, {.attention = true}, {.mid = true}, {.qkv = true}, {.gate_up = true}, all};
    for (const KeptActivations& layer_kept : keeps)
        everywhere([&](parallel::MeshShape mesh, int zero, int rank, DType real) {
            PlanRequest request = request_of(attention_heavy_config(), 1031, mesh, zero, real);
            request.rank = rank;
            request.step.micro_batch = 2, request.step.global_batch = 6 * mesh.data;
            const ModelConfig& c = request.config;
            const std::int64_t tokens = 2 * local_tokens(request), size = size_of(real),
                               queries = c.num_heads * c.head_dim, keys = c.num_kv_heads * c.head_dim;
            std::int64_t layer = block(tokens * c.hidden, size);
            if (layer_kept.attention) layer += block(tokens * queries, size) + block(tokens * c.num_heads, 4);
            if (layer_kept.mid) layer += block(tokens * c.hidden, size);
            if (layer_kept.qkv) layer += block(tokens * queries, size) + 2 * block(tokens * keys, size);
            if (layer_kept.gate_up) layer += 2 * block(tokens * c.intermediate, size);
            const PerLayer kept = per_layer(request, layer_kept);
            BOOST_CHECK_EQUAL(kept.activations, kept.layers * alive(request) * layer);
        });
}

/// S2 keeps the halo: G - floor(G/2) tokens if shards are multiples of G, otherwise as many as the windows need. Dense
/// attention keeps none.
BOOST_AUTO_TEST_CASE(kept_halos) {
    everywhere([&](parallel::MeshShape mesh, int zero, int rank, DType real) {
        if (zero == 1 || zero == 2) return;
        for (const auto& [context, group] :
             {std::pair<std::int64_t, std::int64_t>{1024, 64}, {1028, 127}, {1031, 100}}) {
            PlanRequest request = request_of(attention_heavy_config(), context, mesh, zero, real);
            request.pattern.group = group;
            request.rank = rank;
            const std::int64_t tokens = halo_tokens(request), element = 2 * request.config.head_dim * size_of(real);
            const PerLayer kept = per_layer(request, {});
            const std::int64_t layers = kept.layers * alive(request);
            BOOST_CHECK_GE(kept.exchange, layers * tokens * element);
            // Up to three kinds of heads, each with a piece of its own that is rounded up.
            BOOST_CHECK_LE(kept.exchange, layers * (tokens * element + (tokens ? 3 * 255 : 0)));
            if (context == 1024)  // whole groups: plain heads send nothing; two of three K/V heads serve shifted heads
                BOOST_CHECK_EQUAL(kept.exchange, parallel::coordinate_of(mesh, rank).sequence
                                                     ? layers * 2 * (group - group / 2) * element
                                                     : 0);
            BOOST_CHECK_EQUAL(per_layer(request, {.halo = false}).exchange, 0);
            request.pattern = {AttentionKind::dense, 0};
            BOOST_CHECK_EQUAL(per_layer(request, {}).exchange, 0);
        }
    });
}

/// Whatever the number of ranks, dense attention has one piece that is being used, one that arrives and one that
/// leaves, and as many pieces of results or gradients. With more than two ranks some pieces are queries, in backward
/// together with d_out, out and lse.
BOOST_AUTO_TEST_CASE(dense_pieces_in_memory) {
    constexpr std::int64_t kLocal = 512;
    for (const DType real : {DType::float32, DType::bfloat16})
        for (const int ranks : {2, 4, 8})
            for (int rank = 0; rank < ranks; ++rank) BOOST_TEST_CONTEXT(text_of({1, 1, ranks}, 0, rank, real)) {
                    PlanRequest request = request_of(attention_heavy_config(), kLocal * ranks, {1, 1, ranks}, 0, real);
                    request.pattern = {AttentionKind::dense, 0};
                    request.rank = rank;
                    const std::int64_t elements = 2 * kLocal * request.config.num_kv_heads * request.config.head_dim,
                                       size = size_of(real);
                    const std::int64_t queries =
                                           ranks > 2 ? kLocal * request.config.num_heads * request.config.head_dim : 0,
                                       lse = ranks > 2 ? 4 * kLocal * request.config.num_heads : 0;
                    const std::int64_t forward = 3 * std::max(elements, queries) * size + 3 * (4 * queries + lse);
                    const std::int64_t backward =
                        3 * std::max(elements * size, 3 * queries * size + lse) + 3 * 4 * std::max(elements, queries);
                    const std::int64_t exchange =
                        of(plan_step(request, keep_nothing(request.config)).by_use, Use::exchange);
                    // Gradients of a layer from the other ranks, being summed.
                    const std::int64_t sums =
                        (ranks - 1) * 4 * layer_counts(request.config, request.trainables).trainable;
                    BOOST_CHECK_LE(exchange, std::max(forward, backward) + sums);
                    BOOST_CHECK_LT(sums, elements * size);  // otherwise the check above would be weak
                    if (rank > 0) BOOST_CHECK_GE(exchange, 2 * elements * size);

                    const auto device = make_plan_device();
                    const auto lines = parallel::make_plan_mesh(*device, request.mesh, rank);
                    Weights weights(*device, request.config, request.trainables, {real, real, false},
                                    whole_model(request.config));
                    Model model(weights, request.pattern, request.context, lines.sequence.get());
                    const std::vector<std::int32_t> tokens(kLocal, 1);
                    model.output(model.micro_batch(tokens, tokens), {});
                    BOOST_CHECK_LE(of(device->memory().at_peak(), Use::exchange), forward);
                }
}

/// Beside the kept activations a step needs a few times tokens x hidden. A larger intermediate size or vocabulary only
/// makes the tiles shorter (src/model/step_context.h: 48 MiB each, or 64 rows).
BOOST_AUTO_TEST_CASE(workspace_does_not_grow_with_widths) {
    const auto transient = [](const ModelConfig& c, std::int64_t context, parallel::MeshShape mesh, DType real) {
        PlanRequest request = request_of(c, context, mesh, 0, real);
        request.pattern.group = context / 4;
        request.step.global_batch = 1;
        request.rank = mesh.num_ranks() - 1;
        const Bytes used = plan_step(request, keep_nothing(c)).by_use;
        return of(used, Use::activations) + of(used, Use::workspace) + of(used, Use::exchange) -
               c.num_layers * local_tokens(request) * c.hidden * size_of(real);
    };
    const auto tile = [](std::int64_t width) { return std::max<std::int64_t>(std::int64_t{48} << 20, 64 * width * 4); };
    ModelConfig base = odd_config();
    base.num_layers = 2, base.vocabulary = 4000, base.max_positions = 1 << 20;
    for (const std::int64_t hidden : {256, 4096})
        for (const std::int64_t context : {2048, 65536})
            for (const int ranks : {1, 4})
                for (const DType real : {DType::float32, DType::bfloat16})
                    BOOST_TEST_CONTEXT("hidden " << hidden << ", context " << context << ", " << ranks << " ranks, "
                                                 << name_of(real)) {
                        base.hidden = hidden, base.intermediate = 11 * hidden / 4, base.head_dim = 32,
                        base.num_heads = base.num_kv_heads = hidden / 32;
                        ModelConfig wide = base, many = base;
                        wide.intermediate *= 4, many.vocabulary *= 8;
                        const parallel::MeshShape mesh{1, 1, ranks};
                        const std::int64_t least = transient(base, context, mesh, real),
                                           unit = context / ranks * hidden * size_of(real);
                        BOOST_CHECK_LE(transient(wide, context, mesh, real) - least, 4 * tile(wide.intermediate));
                        BOOST_CHECK_LE(transient(many, context, mesh, real) - least, 2 * tile(many.vocabulary));
                        // d_h, q, k, v, out, d_out, and d_q, d_k, d_v in float32; with shared sequences also the halo
                        // and its gradients.
                        const std::int64_t units = (real == DType::float32 ? 10 : 13) + (ranks > 1 ? 2 : 0);
                        BOOST_CHECK_LE(least, units * unit + 4 * tile(std::max(base.intermediate, base.vocabulary)));
                    }
}

BOOST_AUTO_TEST_SUITE_END()
