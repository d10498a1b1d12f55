// swiglu_forward and swiglu_backward, element by element. An output may be an input, since each element is read
// before it is written.
#include "kernels/cpu/operations.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace longlora::cpu {

void swiglu_forward(Tensor out, const SwigluInputs& inputs) {
    const auto& [gate, up] = inputs;
    with_type(out.dtype, [&](auto type) {
        using T = decltype(type);
        const bool together = out.contiguous() && gate.contiguous() && up.contiguous();
        const std::int64_t num_rows = together ? 1 : out.num_rows(), width = together ? out.count() : out.width();
        const Rows<T> y(out);
        const Rows<const T> a(gate), b(up);
        for_pieces(num_rows, width, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
            T* to = y[row];
            const T *x = a[row], *u = b[row];
#pragma omp simd
            for (std::int64_t i = begin; i < end; ++i) put(to[i], float(x[i]) * sigmoid(float(x[i])) * float(u[i]));
        });
    });
}

void swiglu_backward(const SwigluGradients& gradients, const SwigluBackwardInputs& inputs) {
    const auto& [d_gate, d_up] = gradients;
    const auto& [d_out, gate, up] = inputs;
    with_type(gate.dtype, [&](auto type) {
        using T = decltype(type);
        const bool together =
            d_gate.contiguous() && d_up.contiguous() && d_out.contiguous() && gate.contiguous() && up.contiguous();
        const std::int64_t num_rows = together ? 1 : gate.num_rows(), width = together ? gate.count() : gate.width();
        const Rows<T> dg(d_gate), du(d_up);
        const Rows<const T> dy(d_out), a(gate), b(up);
        for_pieces(num_rows, width, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
            T *to_gate = dg[row], *to_up = du[row];
            const T *g = dy[row], *x = a[row], *u = b[row];
#pragma omp simd
            for (std::int64_t i = begin; i < end; ++i) {
                const float xi = float(x[i]), gi = float(g[i]), ui = float(u[i]), s = sigmoid(xi);
                put(to_gate[i], gi * ui * s * (1.0f + xi * (1.0f - s)));
                put(to_up[i], gi * xi * s);
            }
        });
    });
}

}  // namespace longlora::cpu
