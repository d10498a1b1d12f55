// Attention of one sequence over the ranks that share it: own keys, then those of other ranks as they arrive, merged
// through lse; backward the same way, dK/dV travelling back. Where the list says so, own queries travel instead, and
// results and dQ come back. With one rank it is one call of the operation. Which rank needs what, and where it is
// computed, is parallel/kv_exchange.h.
#pragma once

#include <vector>

#include "model/step_context.h"

namespace longlora {

/// Keys and values of other ranks that stay from forward until backward, in the order of their transfers.
using Halo = std::vector<ArenaTensor>;

/// inputs: this rank's rows of sequence `s` of the micro-batch, q (n, H*E), k, v (n, K*E), rotated. Overwrites result,
/// out (n, H*E) and lse (H, n), with the attention over all keys that the windows of `layer` show. `halo`: if it is
/// there, it is read and nothing is exchanged; else keep_halo fills it, if one stays until backward with this pattern.
/// Every rank of context.sequence calls it for the same sequences and layers in the same order.
void sequence_attention_forward(const StepContext& context, std::int64_t s, std::int64_t layer,
                                const AttentionResult& result, const AttentionInputs& inputs, Halo& halo,
                                bool keep_halo);
/// gradients (float32) += those of the inputs, which include the whole out and lse. Consumes `halo`.
void sequence_attention_backward(const StepContext& context, std::int64_t s, std::int64_t layer,
                                 const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                                 Halo& halo);

}  // namespace longlora
