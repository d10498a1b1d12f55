// Attention on the CPU, forward and backward, as Ops::attention_* in kernels/ops.h describe it. Arguments are checked
// there already. Not here: which instruction set to take (instruction_set.h), the patterns (windows.h).
#pragma once

#include <functional>

#include "core/tensor.h"
#include "kernels/cpu/instruction_set.h"
#include "kernels/ops.h"
#include "kernels/windows.h"

namespace longlora::cpu {

/// Same bits for any number of threads. progress, if not empty, is called by the calling thread between tiles.
void attention_forward(const AttentionResult& result, const AttentionInputs& inputs, const Windows& windows,
                       const AttentionPlace& place, bool accumulate, InstructionSet isa,
                       const std::function<void()>& progress);

/// delta (H,T) float32 is workspace. Same bits for any number of threads. A float32 d_q is faster than a bfloat16 one
/// (5 products instead of 7).
void attention_backward(const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                        const Windows& windows, const AttentionPlace& place, Tensor delta, InstructionSet isa,
                        const std::function<void()>& progress);

}  // namespace longlora::cpu
