// adamw: the optimizer's update; clip_scale: the factor of its gradients. The factor stays in device memory and the
// host does not read it here: if it is NaN, the update does nothing.
#include <cmath>

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/types.h"

namespace longlora::cuda {
namespace {

__global__ void clip_scale_kernel(float* scale, const double* sum_squares, const double* loss_sum, double max_norm) {
    const double squares = *sum_squares, loss = *loss_sum;
    double factor = 1;
    if (max_norm > 0) factor = fmin(1.0, max_norm / (sqrt(squares) + 1e-6));
    const bool finite = fabs(squares) < INFINITY && fabs(loss) < INFINITY;  // false for NaN
    *scale = finite ? static_cast<float>(factor) : NAN;
}

/// The numbers that the update needs at one step, computed from AdamwOptions in double and rounded to float.
struct Rates {
    float decay, beta1, beta2, rest1, rest2, eps;
    float rate, root;  ///< lr / (1 - beta1^step), 1 / sqrt(1 - beta2^step)
};

Rates rates_of(const AdamwOptions& options) {
    const auto step = static_cast<double>(options.step);
    return {static_cast<float>(1 - options.lr * options.weight_decay),
            static_cast<float>(options.beta1),
            static_cast<float>(options.beta2),
            static_cast<float>(1 - options.beta1),
            static_cast<float>(1 - options.beta2),
            static_cast<float>(options.eps),
            static_cast<float>(options.lr / (1 - std::pow(options.beta1, step))),
            static_cast<float>(1 / std::sqrt(1 - std::pow(options.beta2, step)))};
}

template <class W> struct AdamwUpdate {
    static constexpr int kElements = kPack<float>;
    float *master, *m, *v;
    W* weight;  // nullptr if there is none
    const float *grad, *scale;
    Rates r;
    bool aligned;
    __device__ void operator()(std::int64_t, unsigned column, int count) const {
        const float s = *scale;
        if (isnan(s)) return;
        float p[kElements], first[kElements], second[kElements], g[kElements];
        load(p, master + column, count, aligned);
        load(first, m + column, count, aligned);
        load(second, v + column, count, aligned);
        load(g, grad + column, count, aligned);
#pragma unroll
        for (int i = 0; i < kElements; ++i) {
            const float gradient = s * g[i];
            first[i] = r.beta1 * first[i] + r.rest1 * gradient;
            second[i] = r.beta2 * second[i] + r.rest2 * gradient * gradient;
            p[i] = p[i] * r.decay - r.rate * first[i] / (sqrtf(second[i]) * r.root + r.eps);
        }
        store(master + column, p, count, aligned);
        store(m + column, first, count, aligned);
        store(v + column, second, count, aligned);
        if (weight) store(weight + column, p, count, aligned);
    }
};

}  // namespace

void clip_scale(cudaStream_t stream, Tensor scale, const ClipInputs& inputs, double max_norm) {
    clip_scale_kernel<<<1, 1, 0, stream>>>(pointer_to<float>(scale), pointer_to<const double>(inputs.sum_squares),
                                           pointer_to<const double>(inputs.loss_sum), max_norm);
    check(cudaGetLastError(), "clip_scale");
}

void adamw(cudaStream_t stream, const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options) {
    const Rates rates = rates_of(options);
    const bool writes_weight = static_cast<bool>(state.weight);
    with_type(writes_weight ? state.weight.dtype : DType::float32, [&](auto type) {
        using W = typename decltype(type)::type;
        for_sheets(
            [&](const Tensor& p, const Tensor& first, const Tensor& second, const ConstTensor& g, const Tensor& w) {
                const bool aligned = packs_aligned(kPack<float>, p, first, second, g, w);
                const AdamwUpdate<W> update{pointer_to<float>(p),
                                            pointer_to<float>(first),
                                            pointer_to<float>(second),
                                            writes_weight ? pointer_to<W>(w) : nullptr,
                                            pointer_to<const float>(g),
                                            pointer_to<const float>(inputs.scale),
                                            rates,
                                            aligned};
                elementwise(stream, "adamw", update, 1, p.count());
            },
            state.master, state.m, state.v, inputs.grad, writes_weight ? state.weight : state.master);
    });
}

}  // namespace longlora::cuda
