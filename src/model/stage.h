// Stage: the consecutive units of one pipeline stage, and how layers are dealt to stages by their cost. What a stage
// computes is model.h.
#pragma once

#include <cstdint>
#include <vector>

#include "model/attention_pattern.h"
#include "model/config.h"

namespace longlora {

struct Stage {
    std::int64_t first_layer = 0, num_layers = 0;
    bool has_embedding = true;  ///< the first stage
    bool has_head = true;       ///< the last stage; with tied embeddings it keeps a copy of the table
    bool operator==(const Stage&) const = default;
};

/// All of the model.
inline Stage whole_model(const ModelConfig& config) { return {0, config.num_layers, true, true}; }

/// Keys that one query head sees, on average over the queries of a sequence and over heads: what attention costs.
double mean_visible_keys(const AttentionPattern& pattern, std::int64_t layer, std::int64_t context_length,
                         std::int64_t num_heads);
/// FLOPs per token of a training step: a layer's forward, forward again (recomputed) and backward; the head's forward
/// and backward, nothing of which is recomputed.
double layer_cost(const ModelConfig& config, const AttentionPattern& pattern, std::int64_t layer,
                  std::int64_t context_length);
double head_cost(const ModelConfig& config);

/// Consecutive layers, at least one a stage, so that the dearest stage costs least; then as even as possible; then
/// fewer on earlier stages, which keep more micro-batches. The head counts with the last stage; the embedding is a
/// look-up and costs nothing. More stages than layers are refused.
std::vector<Stage> stages_of(const ModelConfig& config, int num_stages, const AttentionPattern& pattern,
                             std::int64_t context_length);

}  // namespace longlora
