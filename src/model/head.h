// The head: final norm, projection on the vocabulary, cross entropy. The loss works by tiles of tokens, so a tensor
// of tokens x vocabulary never exists. The embedding is one operation on its table (model.cpp); tied models share
// this table with the head.
#pragma once

#include "model/step_context.h"
#include "model/weights.h"

namespace longlora {

/// Views into Weights. Gradients are empty if the parameter is frozen. In tied models head and d_head are the table
/// and its gradient.
struct HeadWeights {
    ConstTensor norm;  ///< (D)
    Tensor d_norm;     ///< (D)
    ConstTensor head;  ///< (V, D)
    Tensor d_head;     ///< (V, D)
};
HeadWeights head_weights_of(const Weights& weights);
/// The embedding's table (V,D).
const Parameter& table_of(const Weights& weights);

/// loss_sum (float64 scalar) += sum of the negative log likelihoods (nats) of labels (T), int32. Label -1 is not
/// counted.
void head_loss(const StepContext& context, const HeadWeights& weights, Tensor loss_sum, ConstTensor h,
               ConstTensor labels);
/// The same; also d_h (T,D) = gradient of scale * sum with respect to h. Adds to d_norm and d_head.
void head_loss_backward(const StepContext& context, const HeadWeights& weights, Tensor loss_sum, Tensor d_h,
                        ConstTensor h, ConstTensor labels, float scale);
/// logits (T,V), float32, of all rows of h. For tests; training never needs whole logits.
void head_logits(const StepContext& context, const HeadWeights& weights, Tensor logits, ConstTensor h);

}  // namespace longlora
