// Hands each operation to the function that does it.
#include "kernels/cpu/backend.h"

#include "kernels/cpu/attention.h"
#include "kernels/cpu/operations.h"
#include "kernels/device.h"

namespace longlora::cpu {

void CpuBackend::matmul(int, Tensor out, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b, float alpha,
                        float beta) {
    matmul_(out, a, b, transpose_a == Transpose::yes, transpose_b == Transpose::yes, alpha, beta,
            [this] { device_.progress(); });
}
void CpuBackend::embedding_forward(int, Tensor out, Tensor table, Tensor ids) {
    cpu::embedding_forward(out, table, ids);
}
void CpuBackend::embedding_backward(int, Tensor d_table, Tensor d_out, Tensor ids) {
    cpu::embedding_backward(d_table, d_out, ids);
}
void CpuBackend::rmsnorm_forward(int, Tensor y, Tensor rrms, Tensor x, Tensor weight, float eps) {
    cpu::rmsnorm_forward(y, rrms, x, weight, eps);
}
void CpuBackend::rmsnorm_backward(int, Tensor d_x, Tensor d_weight, Tensor d_y, Tensor x, Tensor weight, Tensor rrms) {
    cpu::rmsnorm_backward(d_x, d_weight, d_y, x, weight, rrms);
}
void CpuBackend::rotary(int, Tensor x, Tensor cos, Tensor sin, std::int64_t head_dim, std::int64_t position_begin,
                        bool inverse) {
    cpu::rotary(x, cos, sin, head_dim, position_begin, inverse);
}
void CpuBackend::attention_forward(int, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, const Windows& windows,
                                   const AttentionPlace& place, bool accumulate) {
    cpu::attention_forward(out, lse, q, k, v, windows, place, accumulate, set_, [this] { device_.progress(); });
}
void CpuBackend::attention_backward(int, Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_out, Tensor out, Tensor lse,
                                    Tensor q, Tensor k, Tensor v, const Windows& windows, const AttentionPlace& place,
                                    Tensor delta) {
    cpu::attention_backward(d_q, d_k, d_v, d_out, out, lse, q, k, v, windows, place, delta, set_,
                            [this] { device_.progress(); });
}
void CpuBackend::merge_attention(int, Tensor out, Tensor lse, Tensor other_out, Tensor other_lse) {
    cpu::merge_attention(out, lse, other_out, other_lse);
}
void CpuBackend::swiglu_forward(int, Tensor out, Tensor gate, Tensor up) { cpu::swiglu_forward(out, gate, up); }
void CpuBackend::swiglu_backward(int, Tensor d_gate, Tensor d_up, Tensor d_out, Tensor gate, Tensor up) {
    cpu::swiglu_backward(d_gate, d_up, d_out, gate, up);
}
void CpuBackend::cross_entropy(int, Tensor loss_sum, Tensor logits, Tensor labels, float scale, bool gradient) {
    cpu::cross_entropy(loss_sum, logits, labels, scale, gradient);
}
void CpuBackend::sum_squares(int, Tensor sum, Tensor x) { cpu::sum_squares(sum, x); }
void CpuBackend::clip_scale(int, Tensor scale, Tensor sum_squares, Tensor loss_sum, double max_norm) {
    cpu::clip_scale(scale, sum_squares, loss_sum, max_norm);
}
void CpuBackend::adamw(int, Tensor master, Tensor m, Tensor v, Tensor weight, Tensor grad, Tensor scale,
                       const AdamwOptions& options) {
    cpu::adamw(master, m, v, weight, grad, scale, options);
}
void CpuBackend::fill(int, Tensor x, float value) { cpu::fill(x, value); }
void CpuBackend::add(int, Tensor y, Tensor x, float alpha) { cpu::add(y, x, alpha); }
void CpuBackend::copy(int, Tensor y, Tensor x) { cpu::copy(y, x); }

}  // namespace longlora::cpu
