// SwiGLU, pack by pack. Outputs may be inputs, since a thread reads its pack of every input before it writes.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/types.h"

namespace longlora::cuda {
namespace {

/// 1 / (1 + exp(-x)); 0 where exp(-x) overflows. The division is accurate to 2 units in the last place.
__device__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + expf(-x)); }

template <class T> struct SwigluForward {
    static constexpr int kElements = kPack<T>;
    Rows<T> out;
    Rows<const T> gate, up;
    bool aligned;
    __device__ void operator()(std::int64_t row, unsigned column, int count) const {
        float x[kElements], u[kElements];
        load(x, gate.at(row, column), count, aligned);
        load(u, up.at(row, column), count, aligned);
#pragma unroll
        for (int i = 0; i < kElements; ++i) x[i] = x[i] * sigmoid(x[i]) * u[i];
        store(out.at(row, column), x, count, aligned);
    }
};

/// silu'(x) = s (1 + x (1 - s)), s = sigmoid(x).
template <class T> struct SwigluBackward {
    static constexpr int kElements = kPack<T>;
    Rows<T> d_gate, d_up;
    Rows<const T> d_out, gate, up;
    bool aligned;
    __device__ void operator()(std::int64_t row, unsigned column, int count) const {
        float g[kElements], x[kElements], u[kElements];
        load(g, d_out.at(row, column), count, aligned);
        load(x, gate.at(row, column), count, aligned);
        load(u, up.at(row, column), count, aligned);
#pragma unroll
        for (int i = 0; i < kElements; ++i) {
            const float s = sigmoid(x[i]);
            u[i] = g[i] * u[i] * s * (1.0f + x[i] * (1.0f - s));
            g[i] = g[i] * x[i] * s;
        }
        store(d_gate.at(row, column), u, count, aligned);
        store(d_up.at(row, column), g, count, aligned);
    }
};

}  // namespace

void swiglu_forward(cudaStream_t stream, Tensor out, const SwigluInputs& inputs) {
    with_type(out.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        for_sheets(
            [&](const Tensor& y, const ConstTensor& g, const ConstTensor& u) {
                const SwigluForward<T> operation{rows_of<T>(y), rows_of<const T>(g), rows_of<const T>(u),
                                                 packs_aligned(kPack<T>, y, g, u)};
                elementwise(stream, "swiglu_forward", operation, y.num_rows(), y.width());
            },
            out, inputs.gate, inputs.up);
    });
}

void swiglu_backward(cudaStream_t stream, const SwigluGradients& gradients, const SwigluBackwardInputs& inputs) {
    with_type(inputs.gate.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        for_sheets(
            [&](const Tensor& dg, const Tensor& du, const ConstTensor& dy, const ConstTensor& g, const ConstTensor& u) {
                const bool aligned = packs_aligned(kPack<T>, dg, du, dy, g, u);
                const SwigluBackward<T> operation{rows_of<T>(dg),      rows_of<T>(du),      rows_of<const T>(dy),
                                                  rows_of<const T>(g), rows_of<const T>(u), aligned};
                elementwise(stream, "swiglu_backward", operation, g.num_rows(), g.width());
            },
            gradients.d_gate, gradients.d_up, inputs.d_out, inputs.gate, inputs.up);
    });
}

}  // namespace longlora::cuda
