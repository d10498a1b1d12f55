// Converts our configuration, weights and attention pattern to the plain double model of tests/reference/model.h. The
// windows are derived here again from their definition, not taken from src/model/attention_pattern.cpp. No tests
// here.
#pragma once

#include "model/rotary.h"
#include "tests/reference/model.h"
#include "tests/support/model_fixture.h"

namespace longlora::model_testing {

/// The first token of the group of token t, where groups begin at 0, first_end, first_end + group, ...
inline std::int64_t group_begin(std::int64_t t, std::int64_t first_end, std::int64_t group) {
    std::int64_t begin = 0;
    for (std::int64_t next = first_end; next <= t; next += group) begin = next;
    return begin;
}

inline std::int64_t plain_window(const AttentionPattern& pattern, std::int64_t layer, bool second_half,
                                 std::int64_t t) {
    const std::int64_t g = pattern.group;
    switch (pattern.kind) {
        case AttentionKind::dense:
            return 0;
        case AttentionKind::sliding:
            return std::max<std::int64_t>(0, t + 1 - g);
        case AttentionKind::plain:
            return group_begin(t, g, g);
        case AttentionKind::shifted_only:
            return group_begin(t, g / 2, g);
        case AttentionKind::layers:
            return group_begin(t, layer % 2 ? g / 2 : g, g);
        case AttentionKind::shifted:
            return group_begin(t, second_half ? g / 2 : g, g);
    }
    return 0;
}

inline reference::AttentionProblem plain_windows(const AttentionPattern& pattern, std::int64_t layer,
                                                 std::int64_t num_heads, std::int64_t context,
                                                 const std::vector<std::int64_t>& starts) {
    reference::AttentionProblem p;
    p.num_plain_heads = num_heads / 2;
    for (const bool second_half : {false, true})
        for (std::int64_t t = 0; t < context; ++t) {
            std::int64_t first = plain_window(pattern, layer, second_half, t);
            for (const std::int64_t start : starts)
                if (start <= t) first = std::max(first, start);
            p.first_key[second_half].push_back(static_cast<std::int32_t>(first));
        }
    return p;
}

inline double to_bf16(double x) { return static_cast<double>(static_cast<float>(bf16(static_cast<float>(x)))); }

struct PlainOptions {
    bool bfloat16 = false;  ///< weights and all stored values are rounded to bfloat16
    std::vector<std::int64_t> document_starts{};
};

inline reference::PlainModel plain_model_of(const Weights& weights, const AttentionPattern& pattern,
                                            std::int64_t context, const PlainOptions& options = {}) {
    const ModelConfig& c = weights.config();
    reference::PlainModel m;
    m.num_layers = c.num_layers, m.num_heads = c.num_heads, m.num_kv_heads = c.num_kv_heads, m.head_dim = c.head_dim;
    m.eps = c.rms_norm_eps, m.tied = c.tied;
    m.lora_scale = weights.trainables().lora_alpha / static_cast<double>(weights.trainables().lora_rank);
    if (options.bfloat16) m.stored = to_bf16;
    for (const Parameter& p : weights.list().parameters) {
        const std::vector<float> values = weights.get(p);
        reference::Values& matrix = m.parameters[p.name] =
            reference::Values(p.shape.count() / p.shape.last(), p.shape.last());
        for (std::size_t i = 0; i < values.size(); ++i) matrix.values[i] = m.stored(values[i]);
    }
    const std::vector<double> frequencies =
        rotary_frequencies(c.rope, c.head_dim, c.max_positions, c.original_positions(), context);
    m.cos = m.sin = reference::Values(context, c.head_dim / 2);
    for (std::int64_t t = 0; t < context; ++t)
        for (std::int64_t i = 0; i < c.head_dim / 2; ++i) {
            const double angle = static_cast<double>(t) * frequencies[static_cast<std::size_t>(i)];
            m.cos(t, i) = std::cos(angle) * rotary_attention_factor(c.rope);
            m.sin(t, i) = std::sin(angle) * rotary_attention_factor(c.rope);
        }
    for (std::int64_t layer = 0; layer < c.num_layers; ++layer)
        m.attention.push_back(plain_windows(pattern, layer, c.num_heads, context, options.document_starts));
    return m;
}

}  // namespace longlora::model_testing
