// The MLP half of a layer: out = mid + Wdown (silu(Wgate x) * (Wup x)) with x = rmsnorm(mid). It works by tiles of
// tokens, so its peak memory does not grow with the intermediate size.
#pragma once

#include "model/linear.h"

namespace longlora {

struct MlpWeights {
    ConstTensor norm;  ///< (D)
    Tensor d_norm;     ///< (D); empty when frozen
    Linear gate, up, down;
};
MlpWeights mlp_weights_of(const Weights& weights, std::int64_t layer);

/// The gate and up projections (T,F), or empty tensors if they are not kept.
struct MlpSaved {
    ArenaTensor gate, up;
};

MlpSaved mlp_forward(const StepContext& context, const MlpWeights& weights, Tensor out, ConstTensor mid,
                     bool keep_gate_up);
/// d_h (T,D): on entry the gradient of out, on return the gradient of mid. Adds to the gradients of the weights.
/// Consumes `saved`.
void mlp_backward(const StepContext& context, const MlpWeights& weights, Tensor d_h, ConstTensor mid, MlpSaved& saved);

}  // namespace longlora
