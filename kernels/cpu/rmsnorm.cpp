// RMS normalisation, row by row. The gradient of the weight is summed over chunks of rows, then over the chunks in
// order. Only the shape determines the chunks.
#include <vector>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace longlora::cpu {

void rmsnorm_forward(Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps) {
    with_type(y.dtype, [&](auto y_type) {
        with_type(x.dtype, [&](auto x_type) {
            with_type(weight.dtype, [&](auto weight_type) {
                using Y = decltype(y_type);
                using X = decltype(x_type);
                using W = decltype(weight_type);
                const Rows<Y> out(y);
                const Rows<const X> in(x);
                const W* w = weight.data<W>();
                float* r = rrms.data<float>();
                const std::int64_t width = x.width();
#pragma omp parallel for schedule(static) if (x.count() > kParallelElements)
                for (std::int64_t t = 0; t < x.shape[0]; ++t) {
                    const X* from = in[t];
                    Y* to = out[t];
                    float sum = 0;
#pragma omp simd reduction(+ : sum)
                    for (std::int64_t d = 0; d < width; ++d) sum += float(from[d]) * float(from[d]);
                    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(width) + eps);
                    r[t] = scale;
#pragma omp simd  // to may be from: each element is read before it is written
                    for (std::int64_t d = 0; d < width; ++d) put(to[d], float(from[d]) * scale * float(w[d]));
                }
            });
        });
    });
}

namespace {

/// One row: d_x += r (w d_y - x r^2 mean(w d_y x)); d_w += d_y x r unless d_w is nullptr.
template <class DX, class DY, class X, class W>
void backward_row(DX* d_x, float* d_w, const DY* d_y, const X* x, const W* w, float r, std::int64_t width) {
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t d = 0; d < width; ++d) dot += float(d_y[d]) * float(w[d]) * float(x[d]);
    const float factor = dot / static_cast<float>(width) * r * r;
#pragma omp simd
    for (std::int64_t d = 0; d < width; ++d)
        put(d_x[d], float(d_x[d]) + r * (float(d_y[d]) * float(w[d]) - float(x[d]) * factor));
    if (!d_w) return;
#pragma omp simd
    for (std::int64_t d = 0; d < width; ++d) d_w[d] += float(d_y[d]) * float(x[d]) * r;
}

template <class DX, class DY, class X, class W>
void backward(const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs) {
    const auto& [d_x, d_weight] = gradients;
    const auto& [d_y, x, weight, rrms] = inputs;
    constexpr std::int64_t kChunkRows = 32, kMostChunks = 256;
    const std::int64_t num_rows = x.shape[0], width = x.width();
    const std::int64_t chunk_rows = std::max(kChunkRows, (num_rows + kMostChunks - 1) / kMostChunks),
                       num_chunks = (num_rows + chunk_rows - 1) / chunk_rows;
    std::vector<float> partial(d_weight ? num_chunks * width : 0);
    const Rows<DX> out(d_x);
    const Rows<const DY> gradient(d_y);
    const Rows<const X> in(x);
    const W* w = weight.data<W>();
    const float* r = rrms.data<float>();
#pragma omp parallel for schedule(static) if (x.count() > kParallelElements)
    for (std::int64_t chunk = 0; chunk < num_chunks; ++chunk) {
        float* d_w = d_weight ? partial.data() + chunk * width : nullptr;
        for (std::int64_t t = chunk * chunk_rows; t < std::min(num_rows, (chunk + 1) * chunk_rows); ++t)
            backward_row(out[t], d_w, gradient[t], in[t], w, r[t], width);
    }
    if (!d_weight) return;
    float* sum = d_weight.data<float>();
    for (std::int64_t chunk = 0; chunk < num_chunks; ++chunk) {
        const float* from = partial.data() + chunk * width;
#pragma omp simd
        for (std::int64_t d = 0; d < width; ++d) sum[d] += from[d];
    }
}

}  // namespace

void rmsnorm_backward(const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs) {
    with_type(gradients.d_x.dtype, [&](auto dx_type) {
        with_type(inputs.d_y.dtype, [&](auto dy_type) {
            with_type(inputs.x.dtype, [&](auto x_type) {
                with_type(inputs.weight.dtype, [&](auto weight_type) {
                    backward<decltype(dx_type), decltype(dy_type), decltype(x_type), decltype(weight_type)>(gradients,
                                                                                                            inputs);
                });
            });
        });
    });
}

}  // namespace longlora::cpu
