// The CPU's operations but matmul and attention itself: the functions of ops.h with the same arguments, which are
// checked already.
#pragma once

#include "kernels/ops.h"

namespace longlora::cpu {

void embedding_forward(Tensor out, Tensor table, Tensor ids);
void embedding_backward(Tensor d_table, Tensor d_out, Tensor ids);
void rmsnorm_forward(Tensor y, Tensor rrms, Tensor x, Tensor weight, float eps);
void rmsnorm_backward(Tensor d_x, Tensor d_weight, Tensor d_y, Tensor x, Tensor weight, Tensor rrms);
void rotary(Tensor x, Tensor cos, Tensor sin, std::int64_t head_dim, std::int64_t position_begin, bool inverse);
void merge_attention(Tensor out, Tensor lse, Tensor other_out, Tensor other_lse);
void swiglu_forward(Tensor out, Tensor gate, Tensor up);
void swiglu_backward(Tensor d_gate, Tensor d_up, Tensor d_out, Tensor gate, Tensor up);
void cross_entropy(Tensor loss_sum, Tensor logits, Tensor labels, float scale, bool gradient);
void sum_squares(Tensor sum, Tensor x);
void clip_scale(Tensor scale, Tensor sum_squares, Tensor loss_sum, double max_norm);
void adamw(Tensor master, Tensor m, Tensor v, Tensor weight, Tensor grad, Tensor scale, const AdamwOptions& options);
void fill(Tensor x, float value);
void add(Tensor y, Tensor x, float alpha);
void copy(Tensor y, Tensor x);

}  // namespace longlora::cpu
