// Stage: the consecutive units of one pipeline stage, and how layers are dealt to stages by their cost. What a stage computes is model.h.
#pragma once

#include <cstdint>
#include <vector>

#include "model/attention_pattern.h"
#include "model/config.h"

namespace longlora {

struct Stage {
    std::int64_t first_layer = 0, num_layers = 0;
    bool has_embedding = true;   ///< the first stage
    bool has_head = true;        ///< the last stage; with tied embeddings it keeps a copy of the table
    bool operator==(const Stage&) const = default;
};

/// All of the model.
inline Stage whole_model(const ModelConfig& config) { return {0, config.num_layers, true, true}; }

/// Consecutive layers, at least one a stage, so that the dearest stage costs least; cost = matrix FLOPs of layers, attention within its windows, embedding and loss.
/// More stages than layers are refused.
std::vector<Stage> stages_of(const ModelConfig& config, int num_stages, const AttentionPattern& pattern, std::int64_t context_length);

}  // namespace longlora
