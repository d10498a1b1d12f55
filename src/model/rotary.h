// Rotary tables: cos and sin per position and frequency, computed in double for every kind of scaling. Ops::rotary
// applies them; config_rope.cpp reads the scaling from config.json.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace longlora {

struct RotaryTables {
    std::int64_t positions = 0, half = 0;
    std::vector<float> cos, sin;  ///< (positions, half); YaRN's attention factor is multiplied in
};

/// theta_i of each pair i = 0 .. head_dim/2 - 1, in radians per token, for a sequence of `context` tokens (dynamic
/// NTK depends on it).
std::vector<double> rotary_frequencies(const RopeScaling& rope, std::int64_t head_dim, std::int64_t max_positions,
                                       std::int64_t original_positions, std::int64_t context);
/// The factor on cos and sin: 1, except for yarn.
double rotary_attention_factor(const RopeScaling& rope);
/// The rows are positions [begin, begin + count) of a sequence of `context` tokens.
RotaryTables rotary_tables(const ModelConfig& config, std::int64_t context, std::int64_t begin, std::int64_t count);
/// The tables of all positions.
inline RotaryTables rotary_tables(const ModelConfig& config, std::int64_t context) {
    return rotary_tables(config, context, 0, context);
}

}  // namespace longlora
