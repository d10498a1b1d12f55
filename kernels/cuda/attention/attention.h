// Attention on a GPU, forward and backward: Ops::attention_forward and Ops::attention_backward in kernels/ops.h,
// which has checked the arguments. Merging two results is in merge.cu, windows are in kernels/windows.h, and the
// patterns that make them in src/model/attention_pattern.h.
//
// The method is FlashAttention-2 (Dao 2023, arXiv:2307.08691). Scores are computed tile by tile and never stored.
// Forward keeps a running maximum and sum for each query; backward computes the probabilities again from lse.
// bfloat16 uses tensor cores (mma.m16n8k16) with float32 sums; probabilities and their gradients are rounded to
// bfloat16 before they are multiplied. float32 uses plain fused multiply-adds, never TF32. All sums have a fixed
// order and use no atomics, so every run gives the same bits.
#pragma once

#include <cuda_runtime.h>

#include "core/tensor.h"
#include "kernels/ops.h"
#include "kernels/windows.h"

namespace longlora::cuda {

/// Throws Error(bad_input) that names head_dim if it is not a multiple of 8 up to 128. place.scale must be positive.
/// Kernels are compiled for head_dim 32, 64 and 128; any other head_dim is computed as the next larger one, with
/// columns of zeros. The kernels are fastest if the rows of q, k, v and out start at multiples of 16 bytes; other
/// rows work as well.
void attention_forward(cudaStream_t stream, const AttentionResult& result, const AttentionInputs& inputs,
                       const Windows& windows, const AttentionPlace& place, bool accumulate);

/// delta (H,T) float32 is workspace. If q is bfloat16 and d_out is float32, d_out is rounded to bfloat16, since
/// tensor cores multiply it.
void attention_backward(cudaStream_t stream, const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                        const Windows& windows, const AttentionPlace& place, Tensor delta);

}  // namespace longlora::cuda
