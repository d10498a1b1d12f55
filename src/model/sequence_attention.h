// Attention of one sequence over the ranks that share it. A rank computes attention over its own keys, then over the
// keys of other ranks as they arrive, and merges the results through lse. Backward works the same way, and dK and dV
// travel back. Where the list of transfers says so, queries travel instead, and results and dQ come back. With one
// rank this is one call of the operation. parallel/kv_exchange.h decides which rank needs what, and where it is
// computed.
#pragma once

#include <vector>

#include "model/step_context.h"

namespace longlora {

/// Keys and values of other ranks that stay from forward until backward.
struct Halo {
    std::vector<ArenaTensor> pieces;  ///< in the order of this rank's transfers; those that it only sends are empty
    bool kept = false;                ///< a rank that receives nothing keeps an empty halo
    bool empty() const { return !kept; }
    void clear() { pieces.clear(), kept = false; }
};

/// inputs: this rank's rows of sequence `s` of the micro-batch: q (n, H*E), k and v (n, K*E), with q and k rotated.
/// Overwrites result, out (n, H*E) and lse (H, n), with the attention over all keys that the windows of `layer` show.
/// If `halo` is not empty, it is read and nothing is exchanged. Otherwise keep_halo fills it, if the halo of this
/// pattern stays until backward. Every rank of context.sequence must call this for the same sequences and layers in
/// the same order.
void sequence_attention_forward(const StepContext& context, std::int64_t s, std::int64_t layer,
                                const AttentionResult& result, const AttentionInputs& inputs, Halo& halo,
                                bool keep_halo);
/// gradients (float32) += the gradients of q, k and v. The out and lse of `inputs` are the complete results of
/// forward. Consumes `halo`.
void sequence_attention_backward(const StepContext& context, std::int64_t s, std::int64_t layer,
                                 const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                                 Halo& halo);

}  // namespace longlora
