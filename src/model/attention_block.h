// The attention half of a layer: mid = h + Wo attention(rotary(Wq x), rotary(Wk x), Wv x) with x = rmsnorm(h).
// Forward, recomputation of what forward did not keep, and backward. attention_pattern.h says which keys a query
// sees; sequence_attention.h computes attention over the keys of this rank and of other ranks.
#pragma once

#include "model/linear.h"
#include "model/sequence_attention.h"

namespace longlora {

struct AttentionWeights {
    ConstTensor norm;  ///< (D)
    Tensor d_norm;     ///< (D); empty when frozen
    Linear q, k, v, o;
};
AttentionWeights attention_weights_of(const Weights& weights, std::int64_t layer);

/// What a layer keeps from forward for backward besides its input. Backward recomputes the rest.
struct KeptActivations {
    bool attention = false;  ///< attention output and lse
    bool mid = false;        ///< the residual stream between the halves
    bool qkv = false;        ///< rotated queries and keys, values
    bool gate_up = false;    ///< the MLP's two intermediate projections
    bool halo = true;        ///< keys and values of other ranks, if they are few (S2); otherwise they are sent again
    bool operator==(const KeptActivations&) const = default;
};

/// A tensor that is not kept is empty.
struct AttentionSaved {
    ArenaTensor q, k, v;      ///< (T, H*E), (T, K*E), (T, K*E); q and k are rotated
    ArenaTensor out, lse;     ///< (T, H*E), (H, T) float32
    ArenaTensor mid;          ///< (T, D)
    std::vector<Halo> halos;  ///< one per sequence; may be kept even if all the rest is recomputed
};

/// Always returns mid in saved.mid, whatever `kept` says: the MLP reads it, and then the caller releases it. Returns
/// the other tensors as `kept` says.
AttentionSaved attention_forward(const StepContext& context, const AttentionWeights& weights, std::int64_t layer,
                                 ConstTensor h, const KeptActivations& kept);
/// Recomputes what was not kept.
void attention_restore(const StepContext& context, const AttentionWeights& weights, std::int64_t layer, ConstTensor h,
                       AttentionSaved& saved);
/// d_h (T,D): on entry the gradient of mid, on return the gradient of h. Adds to the gradients of the weights.
/// `saved` must have been restored; this function consumes it.
void attention_backward(const StepContext& context, const AttentionWeights& weights, std::int64_t layer, Tensor d_h,
                        ConstTensor h, AttentionSaved& saved);

}  // namespace longlora
