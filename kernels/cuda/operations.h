// The operations of kernels/ops.h on a GPU, except matmul (matmul.h), attention_forward and attention_backward
// (attention/attention.h). Each function puts kernels into a stream. The other arguments are those of Ops, which has
// checked them. scratch is device memory: uint8, contiguous, 256-byte aligned. An operation needs it until its last
// kernel has run, and may leave anything in it.
#pragma once

#include <cuda_runtime.h>

#include "kernels/ops.h"

namespace longlora::cuda {

void embedding_forward(cudaStream_t stream, Tensor out, ConstTensor table, ConstTensor ids);
void embedding_backward(cudaStream_t stream, Tensor scratch, Tensor d_table, ConstTensor d_out, ConstTensor ids);
void rmsnorm_forward(cudaStream_t stream, Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps);
void rmsnorm_backward(cudaStream_t stream, Tensor scratch, const RmsnormGradients& gradients,
                      const RmsnormBackwardInputs& inputs);
void rotary(cudaStream_t stream, Tensor x, const RotaryAngles& angles, std::int64_t head_dim,
            std::int64_t position_begin, bool inverse);
void merge_attention(cudaStream_t stream, const AttentionResult& result, const ConstAttentionResult& other);
void swiglu_forward(cudaStream_t stream, Tensor out, const SwigluInputs& inputs);
void swiglu_backward(cudaStream_t stream, const SwigluGradients& gradients, const SwigluBackwardInputs& inputs);
/// shared_bytes: the shared memory that a block may have on this GPU. A row of logits that fits into it is read from
/// device memory only once.
void cross_entropy(cudaStream_t stream, Tensor scratch, std::int64_t shared_bytes, Tensor loss_sum, Tensor logits,
                   ConstTensor labels, float scale, bool gradient);
void sum_squares(cudaStream_t stream, Tensor scratch, Tensor sum, ConstTensor x);
void clip_scale(cudaStream_t stream, Tensor scale, const ClipInputs& inputs, double max_norm);
void adamw(cudaStream_t stream, const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options);
void fill(cudaStream_t stream, Tensor x, float value);
void add(cudaStream_t stream, Tensor y, ConstTensor x, float alpha);
void copy(cudaStream_t stream, Tensor y, ConstTensor x);

/// What matmul needs beside cuBLAS: combine is y = beta * y + x, scale is y = beta * y, both for real types. If beta
/// is 0, they do not read y.
void combine(cudaStream_t stream, Tensor y, ConstTensor x, float beta);
void scale(cudaStream_t stream, Tensor y, float beta);

/// Loads a kernel on the current GPU without running it, and returns the error that its first launch would give. The
/// driver compiles the kernel if the program has no machine code for this GPU.
cudaError_t load_a_kernel();

}  // namespace longlora::cuda
