// The update of the optimizer (adamw), and what decides it: sum_squares and clip_scale.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace longlora::cpu {

void sum_squares(Tensor sum, ConstTensor x) {
    constexpr std::int64_t kChunk = 1 << 14;  // the order of the sum depends only on the shape
    const ConstTensor in = flat(x);
    const std::int64_t num_rows = in.num_rows(), width = in.width(), chunks = (width + kChunk - 1) / kChunk;
    std::vector<double> partial(num_rows * chunks);
    with_type(x.dtype, [&](auto type) {
        const Rows<const decltype(type)> rows(in);
#pragma omp parallel for schedule(static) if (x.count() > kParallelElements)
        for (std::int64_t i = 0; i < num_rows * chunks; ++i) {
            const auto* from = rows[i / chunks];
            double chunk = 0;
#pragma omp simd reduction(+ : chunk)
            for (std::int64_t d = i % chunks * kChunk; d < std::min(width, (i % chunks + 1) * kChunk); ++d)
                chunk += double(float(from[d])) * double(float(from[d]));
            partial[i] = chunk;
        }
    });
    double total = 0;
    for (const double chunk : partial) total += chunk;
    *sum.data<double>() += total;
}

void clip_scale(Tensor scale, const ClipInputs& inputs, double max_norm) {
    const double squares = *inputs.sum_squares.data<double>(), loss = *inputs.loss_sum.data<double>();
    double factor = max_norm > 0 ? std::min(1.0, max_norm / (std::sqrt(squares) + 1e-6)) : 1.0;
    if (!std::isfinite(squares) || !std::isfinite(loss)) factor = std::numeric_limits<double>::quiet_NaN();
    *scale.data<float>() = static_cast<float>(factor);
}

void adamw(const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options) {
    const auto& [master, m, v, weight] = state;
    const float s = *inputs.scale.data<float>();
    if (std::isnan(s)) return;
    const double step = static_cast<double>(options.step);
    const float decay = static_cast<float>(1 - options.lr * options.weight_decay),
                beta1 = static_cast<float>(options.beta1), beta2 = static_cast<float>(options.beta2);
    const float rest1 = static_cast<float>(1 - options.beta1), rest2 = static_cast<float>(1 - options.beta2),
                eps = static_cast<float>(options.eps);
    const float rate = static_cast<float>(options.lr / (1 - std::pow(options.beta1, step)));
    const float root = static_cast<float>(1 / std::sqrt(1 - std::pow(options.beta2, step)));
    float *p = master.data<float>(), *first = m.data<float>(), *second = v.data<float>();
    const float* gradient = inputs.grad.data<float>();
    with_type(weight ? weight.dtype : DType::float32, [&](auto type) {
        using W = decltype(type);
        W* w = weight ? weight.data<W>() : nullptr;
        for_pieces(1, master.count(), [&](std::int64_t, std::int64_t begin, std::int64_t end) {
#pragma omp simd
            for (std::int64_t i = begin; i < end; ++i) {
                const float g = s * gradient[i];
                first[i] = beta1 * first[i] + rest1 * g;
                second[i] = beta2 * second[i] + rest2 * g * g;
                p[i] = p[i] * decay - rate * first[i] / (std::sqrt(second[i]) * root + eps);
            }
            if (!w) return;
#pragma omp simd
            for (std::int64_t i = begin; i < end; ++i) put(w[i], p[i]);
        });
    });
}

}  // namespace longlora::cpu
