// The head: final norm, projection on the vocabulary, cross entropy; by tiles of tokens, so tokens x vocabulary never
// exists. The embedding itself is one operation on its table, which tied models share with the head.
#pragma once

#include "model/step_context.h"
#include "model/weights.h"

namespace longlora {

/// Views into Weights; gradients are empty when frozen. Tied models: head and d_head are the table and its gradient.
struct HeadWeights {
    ConstTensor norm;  ///< (D)
    Tensor d_norm;     ///< (D)
    ConstTensor head;  ///< (V, D)
    Tensor d_head;     ///< (V, D)
};
HeadWeights head_weights_of(const Weights& weights);
/// The embedding's table (V,D).
const Parameter& table_of(const Weights& weights);

/// loss_sum (float64 scalar) += sum of the negative log likelihoods (nats) of labels (T) int32, -1 = not counted.
void head_loss(const StepContext& context, const HeadWeights& weights, Tensor loss_sum, ConstTensor h,
               ConstTensor labels);
/// The same, and d_h (T,D) = gradient of scale * sum; adds to d_norm and d_head.
void head_loss_backward(const StepContext& context, const HeadWeights& weights, Tensor loss_sum, Tensor d_h,
                        ConstTensor h, ConstTensor labels, float scale);
/// logits (T,V) float32 of all rows of h: for tests and generation, not for training.
void head_logits(const StepContext& context, const HeadWeights& weights, Tensor logits, ConstTensor h);

}  // namespace longlora
