// The attention half of a layer: mid = h + Wo attention(rotary(Wq x), rotary(Wk x), Wv x), x = rmsnorm(h). Forward,
// restoring, backward. Which keys are seen is the windows' business (attention_pattern.h), whose they are is
// sequence_attention.h's.
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

/// What a layer keeps from forward for backward beside its input; what is not kept is made again.
struct KeptActivations {
    bool attention = false;  ///< attention output and lse
    bool mid = false;        ///< the residual stream between the halves
    bool qkv = false;        ///< rotated queries and keys, values
    bool gate_up = false;    ///< the MLP's two intermediate projections
    bool halo = true;        ///< keys and values of other ranks, where they are few (S2); otherwise they are sent again
};

/// Empty tensors are those not kept.
struct AttentionSaved {
    ArenaTensor q, k, v;      ///< (T, H*E), (T, K*E), rotated
    ArenaTensor out, lse;     ///< (T, H*E), (H, T) float32
    ArenaTensor mid;          ///< (T, D)
    std::vector<Halo> halos;  ///< by sequence; whatever else is kept, a halo that stays does
};

/// Returns mid in saved.mid whatever `keep` says (the MLP reads it; the caller drops it), the others as kept.
AttentionSaved attention_forward(const StepContext& context, const AttentionWeights& weights, std::int64_t layer,
                                 ConstTensor h, const KeptActivations& kept);
/// Fills in what was not kept.
void attention_restore(const StepContext& context, const AttentionWeights& weights, std::int64_t layer, ConstTensor h,
                       AttentionSaved& saved);
/// d_h (T,D): on entry the gradient of mid, on return that of h. Adds to the weights' gradients. `saved` is restored
/// and is consumed.
void attention_backward(const StepContext& context, const AttentionWeights& weights, std::int64_t layer, Tensor d_h,
                        ConstTensor h, AttentionSaved& saved);

}  // namespace longlora
