// A tiny model with odd sizes (3 query heads, 1 key/value head) in which every parameter influences the loss, for
// tests that need no golden values. No tests here.
#pragma once

#include "core/random.h"
#include "tests/support/model_fixture.h"

namespace longlora::model_testing {

constexpr std::int64_t kTinyVocabulary = 67;

inline ModelConfig tiny_config(bool tied = false) {
    ModelConfig c;
    c.model_type = "llama";
    c.hidden = 24, c.intermediate = 40, c.num_layers = 2, c.num_heads = 3, c.num_kv_heads = 1, c.head_dim = 8,
    c.vocabulary = kTinyVocabulary;
    c.max_positions = 64;
    c.tied = tied;
    c.rms_norm_eps = 1e-5;
    return c;
}

/// LoRA on all seven projections, embedding, norms and lm_head.
inline TrainableSet all_adapters() {
    TrainableSet set;
    set.lm_head = true;
    set.lora_rank = 3;
    set.lora_alpha = 7;
    set.lora_targets = {Projection::q,    Projection::k,  Projection::v,   Projection::o,
                        Projection::gate, Projection::up, Projection::down};
    return set;
}

inline TrainableSet all_weights() {
    TrainableSet set;
    set.method = Method::full;
    return set;
}

/// Fills matrices with normal(0, 0.25) and norms with uniform(0.7, 1.3). lora_b is not zero, so no term vanishes. The
/// values depend only on seed, name and index.
inline void fill_lively(Weights& weights, std::uint64_t seed = 5) {
    for (const Parameter& p : weights.list().parameters) {
        std::vector<float> values(static_cast<std::size_t>(p.shape.count()));
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<float>(p.group == ParameterGroup::norm
                                               ? 0.7 + 0.6 * random_uniform(seed, stream_of(p.name), i)
                                               : 0.25 * random_normal(seed, stream_of(p.name), i));
        weights.set(p, {DType::float32, p.shape, reinterpret_cast<const std::byte*>(values.data())}, "the test");
    }
}

inline std::vector<std::int32_t> random_tokens(std::int64_t count, std::uint64_t stream) {
    std::vector<std::int32_t> tokens;
    for (std::int64_t t = 0; t < count; ++t)
        tokens.push_back(
            static_cast<std::int32_t>(random_below(kTinyVocabulary, 11, stream, static_cast<std::uint64_t>(t))));
    return tokens;
}

/// A tiny model whose weights are filled.
struct TinyFixture : Fixture {
    TinyFixture(const TrainableSet& trainables, const AttentionPattern& pattern, std::int64_t context,
                const FixtureOptions& options = {}, bool tied = false)
        : Fixture(tiny_config(tied), trainables, pattern, context, options) {
        fill_lively(*weights);
    }
};

}  // namespace longlora::model_testing
