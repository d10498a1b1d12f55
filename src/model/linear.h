// A linear projection with optional LoRA (Hu et al. 2021), forward and backward: y = x W^T + s (x A^T) B^T. There is
// no bias.
#pragma once

#include "model/step_context.h"
#include "model/weights.h"

namespace longlora {

/// Views into Weights. Gradients are float32, and empty if the matrix is not trained. The LoRA matrices are empty if
/// the projection has no LoRA.
struct Linear {
    ConstTensor weight;          ///< (out, in)
    Tensor d_weight;             ///< (out, in)
    ConstTensor lora_a, lora_b;  ///< (R, in), (out, R)
    Tensor d_lora_a, d_lora_b;   ///< (R, in), (out, R)
    float lora_scale = 0;        ///< s = alpha / R

    bool has_lora() const { return static_cast<bool>(lora_a); }
    /// Whether backward reads x.
    bool needs_input() const { return has_lora() || d_weight; }
};

Linear linear_of(const Weights& weights, std::int64_t layer, Projection p);
Linear linear_of(const Weights& weights, const std::string& name);

enum class Write { overwrite, accumulate };

/// y (T,out) = or += x W^T + s (x A^T) B^T, as `write` says. The rows of x (T,in) may be strided.
void linear_forward(const StepContext& context, Tensor y, ConstTensor x, const Linear& linear, Write write);
/// d_x (T,in) = or += d_y W + s (d_y B) A, as `write` says; skipped if d_x is empty. Adds to d_weight, d_lora_a and
/// d_lora_b if they exist. x may be empty unless linear.needs_input().
void linear_backward(const StepContext& context, Tensor d_x, ConstTensor d_y, ConstTensor x, const Linear& linear,
                     Write write);

}  // namespace longlora
