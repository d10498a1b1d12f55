// Attention on the CPU, forward and backward: Ops::attention_forward and Ops::attention_backward in kernels/ops.h,
// which has checked the arguments. The choice of the instruction set is in instruction_set.h, windows are in
// kernels/windows.h, and merging two results is in merge_attention.cpp.
#pragma once

#include <functional>

#include "core/tensor.h"
#include "kernels/cpu/instruction_set.h"
#include "kernels/ops.h"
#include "kernels/windows.h"

namespace longlora::cpu {

/// Gives the same bits with any number of threads. The calling thread calls progress, unless it is empty, between
/// tiles.
void attention_forward(const AttentionResult& result, const AttentionInputs& inputs, const Windows& windows,
                       const AttentionPlace& place, bool accumulate, InstructionSet isa,
                       const std::function<void()>& progress);

/// delta (H,T) float32 is workspace. Gives the same bits with any number of threads. A float32 d_q is faster than a
/// bfloat16 one (5 products instead of 7).
void attention_backward(const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                        const Windows& windows, const AttentionPlace& place, Tensor delta, InstructionSet isa,
                        const std::function<void()>& progress);

}  // namespace longlora::cpu
