// Attention of one sequence over the ranks that share it: own keys, then those of other ranks as they arrive, merged
// through lse; backward the same way, dK/dV travelling back. Where the list says so, own queries travel instead, and
// results and dQ come back. With one rank it is one call of the operation. Who needs what, and where it is computed, is
// parallel/kv_exchange.h.
#pragma once

#include <vector>

#include "model/step_context.h"

namespace longlora {

/// Keys and values of other ranks that stay from forward until backward, in the order of their transfers.
using Halo = std::vector<ArenaTensor>;

/// q (n, H*E), k, v (n, K*E): this rank's rows of sequence `s` of the micro-batch, rotated. Overwrites out (n, H*E) and
/// lse (H, n) with the attention over all keys that the windows of `layer` show. `halo`: read instead of exchanging if
/// it is there; else filled when asked for, if one stays until backward with this pattern. Every rank of
/// context.sequence calls it for the same sequences and layers in the same order.
void sequence_attention_forward(const StepContext& context, std::int64_t s, std::int64_t layer, Tensor out, Tensor lse,
                                Tensor q, Tensor k, Tensor v, Halo& halo, bool keep_halo);
/// d_q, d_k, d_v (float32) += gradients, given d_out and the whole out and lse. Consumes `halo`.
void sequence_attention_backward(const StepContext& context, std::int64_t s, std::int64_t layer, Tensor d_q, Tensor d_k,
                                 Tensor d_v, Tensor d_out, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                                 Halo& halo);

}  // namespace longlora
