// cross_entropy: loss and gradient, row by row in float32. The losses of the rows are added in double, in the order
// of the rows.
#include <limits>
#include <vector>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace longlora::cpu {
namespace {

/// Writes exp(x - most) to `exps`, which may be x, and returns their sum. Blocks are summed in float, the sums of the
/// blocks in double.
template <class T> double exp_row(float* exps, const T* x, float most, std::int64_t width) {
    constexpr std::int64_t kBlock = 1024;
    double sum = 0;
    for (std::int64_t begin = 0; begin < width; begin += kBlock) {
        const std::int64_t end = std::min(width, begin + kBlock);
        float block = 0;
#pragma omp simd reduction(+ : block)
        for (std::int64_t i = begin; i < end; ++i) {
            exps[i] = fast_exp(float(x[i]) - most);
            block += exps[i];
        }
        sum += double(block);
    }
    return sum;
}

/// A NaN in the row makes the loss NaN: the maximum ignores it, but the sum does not.
template <class T>
double loss_of_row(T* x, float* exps, std::int32_t label, std::int64_t width, float scale, bool gradient) {
    float most = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : most)
    for (std::int64_t i = 0; i < width; ++i) most = float(x[i]) > most ? float(x[i]) : most;
    const double at_label = double(float(x[label])), sum = exp_row(exps, x, most, width);
    if (gradient) {
        const float factor = static_cast<float>(double(scale) / sum);
        const float label_probability = static_cast<float>(double(exps[label]) / sum);
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) put(x[i], exps[i] * factor);
        put(x[label], scale * (label_probability - 1.0f));
    }
    return std::log(sum) + (double(most) - at_label);
}

}  // namespace

void cross_entropy(Tensor loss_sum, Tensor logits, ConstTensor labels, float scale, bool gradient) {
    const std::int64_t num_rows = logits.shape[0], width = logits.width();
    std::vector<double> losses(num_rows, 0.0);
    const std::int32_t* label = labels.data<std::int32_t>();
    with_type(logits.dtype, [&](auto type) {
        using T = decltype(type);
        const Rows<T> rows(logits);
#pragma omp parallel if (logits.count() > kParallelElements)
        {
            std::vector<float> exps(width);
#pragma omp for schedule(static)
            for (std::int64_t t = 0; t < num_rows; ++t) {
                if (label[t] >= 0) losses[t] = loss_of_row(rows[t], exps.data(), label[t], width, scale, gradient);
                else if (gradient) std::fill_n(rows[t], width, T(0.0f));
            }
        }
    });
    double sum = 0;
    for (const double loss : losses) sum += loss;
    *loss_sum.data<double>() += sum;
}

}  // namespace longlora::cpu
