// Passes each operation to the function that computes it.
#include "kernels/cpu/backend.h"

#include "kernels/cpu/attention.h"
#include "kernels/cpu/operations.h"
#include "kernels/device.h"

namespace longlora::cpu {

void CpuBackend::matmul(int, Tensor out, ConstTensor a, ConstTensor b, Transpose transpose_a, Transpose transpose_b,
                        float alpha, float beta) {
    matmul_(out, a, b, transpose_a == Transpose::yes, transpose_b == Transpose::yes, alpha, beta,
            [this] { device_.progress(); });
}
void CpuBackend::embedding_forward(int, Tensor out, ConstTensor table, ConstTensor ids) {
    cpu::embedding_forward(out, table, ids);
}
void CpuBackend::embedding_backward(int, Tensor d_table, ConstTensor d_out, ConstTensor ids) {
    cpu::embedding_backward(d_table, d_out, ids);
}
void CpuBackend::rmsnorm_forward(int, Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps) {
    cpu::rmsnorm_forward(y, rrms, x, weight, eps);
}
void CpuBackend::rmsnorm_backward(int, const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs) {
    cpu::rmsnorm_backward(gradients, inputs);
}
void CpuBackend::rotary(int, Tensor x, const RotaryAngles& angles, std::int64_t head_dim, std::int64_t position_begin,
                        bool inverse) {
    cpu::rotary(x, angles, head_dim, position_begin, inverse);
}
void CpuBackend::attention_forward(int, const AttentionResult& result, const AttentionInputs& inputs,
                                   const Windows& windows, const AttentionPlace& place, bool accumulate) {
    cpu::attention_forward(result, inputs, windows, place, accumulate, set_, [this] { device_.progress(); });
}
void CpuBackend::attention_backward(int, const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                                    const Windows& windows, const AttentionPlace& place, Tensor delta) {
    cpu::attention_backward(gradients, inputs, windows, place, delta, set_, [this] { device_.progress(); });
}
void CpuBackend::merge_attention(int, const AttentionResult& result, const ConstAttentionResult& other) {
    cpu::merge_attention(result, other);
}
void CpuBackend::swiglu_forward(int, Tensor out, const SwigluInputs& inputs) { cpu::swiglu_forward(out, inputs); }
void CpuBackend::swiglu_backward(int, const SwigluGradients& gradients, const SwigluBackwardInputs& inputs) {
    cpu::swiglu_backward(gradients, inputs);
}
void CpuBackend::cross_entropy(int, Tensor loss_sum, Tensor logits, ConstTensor labels, float scale, bool gradient) {
    cpu::cross_entropy(loss_sum, logits, labels, scale, gradient);
}
void CpuBackend::sum_squares(int, Tensor sum, ConstTensor x) { cpu::sum_squares(sum, x); }
void CpuBackend::clip_scale(int, Tensor scale, const ClipInputs& inputs, double max_norm) {
    cpu::clip_scale(scale, inputs, max_norm);
}
void CpuBackend::adamw(int, const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options) {
    cpu::adamw(state, inputs, options);
}
void CpuBackend::fill(int, Tensor x, float value) { cpu::fill(x, value); }
void CpuBackend::add(int, Tensor y, ConstTensor x, float alpha) { cpu::add(y, x, alpha); }
void CpuBackend::copy(int, Tensor y, ConstTensor x) { cpu::copy(y, x); }

}  // namespace longlora::cpu
