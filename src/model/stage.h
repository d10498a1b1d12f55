// Stage: the consecutive units of one pipeline stage, and how layers are distributed to stages by their cost. model.h
// has what a stage computes.
#pragma once

#include <cstdint>
#include <vector>

#include "model/attention_pattern.h"
#include "model/config.h"

namespace longlora {

struct Stage {
    std::int64_t first_layer = 0, num_layers = 0;
    bool has_embedding = true;  ///< the first stage
    bool has_head = true;       ///< the last stage; with tied embeddings it holds a copy of the table
    bool operator==(const Stage&) const = default;
};

/// The whole model as one stage.
inline Stage whole_model(const ModelConfig& config) { return {0, config.num_layers, true, true}; }

/// The number of keys that a query head sees, averaged over the queries of a sequence and over the heads. The cost of
/// attention is proportional to it.
double mean_visible_keys(const AttentionPattern& pattern, std::int64_t layer, std::int64_t context_length,
                         std::int64_t num_heads);
/// FLOPs per token of a training step. A layer: forward, forward again (recomputation) and backward. The head:
/// forward and backward, since nothing of it is recomputed.
double layer_cost(const ModelConfig& config, const AttentionPattern& pattern, std::int64_t layer,
                  std::int64_t context_length);
double head_cost(const ModelConfig& config);

/// Distributes consecutive layers, at least one per stage. First it makes the highest cost of a stage as low as
/// possible, then the numbers of layers as even as possible. Among equals, earlier stages get fewer layers, since
/// they keep more micro-batches. The head counts for the last stage; the embedding is a look-up and costs nothing.
/// More stages than layers are refused.
std::vector<Stage> stages_of(const ModelConfig& config, int num_stages, const AttentionPattern& pattern,
                             std::int64_t context_length);

}  // namespace longlora
