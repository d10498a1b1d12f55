// The operations of kernels/ops.h on the CPU, except matmul (matmul.h), attention_forward and attention_backward
// (attention.h). Their arguments are those of Ops, which has checked them.
#pragma once

#include "kernels/ops.h"

namespace longlora::cpu {

void embedding_forward(Tensor out, ConstTensor table, ConstTensor ids);
void embedding_backward(Tensor d_table, ConstTensor d_out, ConstTensor ids);
void rmsnorm_forward(Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps);
void rmsnorm_backward(const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs);
void rotary(Tensor x, const RotaryAngles& angles, std::int64_t head_dim, std::int64_t position_begin, bool inverse);
void merge_attention(const AttentionResult& result, const ConstAttentionResult& other);
void swiglu_forward(Tensor out, const SwigluInputs& inputs);
void swiglu_backward(const SwigluGradients& gradients, const SwigluBackwardInputs& inputs);
void cross_entropy(Tensor loss_sum, Tensor logits, ConstTensor labels, float scale, bool gradient);
void sum_squares(Tensor sum, ConstTensor x);
void clip_scale(Tensor scale, const ClipInputs& inputs, double max_norm);
void adamw(const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options);
void fill(Tensor x, float value);
void add(Tensor y, ConstTensor x, float alpha);
void copy(Tensor y, ConstTensor x);

}  // namespace longlora::cpu
