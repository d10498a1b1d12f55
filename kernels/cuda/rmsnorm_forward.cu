// rmsnorm_forward: y = x * rrms * weight. The backward operation is in rmsnorm_backward.cu.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/rmsnorm.cuh"
#include "kernels/cuda/types.h"

namespace longlora::cuda {
namespace {

constexpr std::int64_t kRowsPerBlock = 8;  // all of them use the weights that the threads keep in registers

template <bool whole, class Y, class X>
__global__ void __launch_bounds__(kMostRowThreads, 1)
    rmsnorm_forward_kernel(Rows<Y> y, float* rrms, Rows<const X> x, NormWeight weight, RowShape shape, float eps) {
    constexpr int n = kPack<Y, X>, kHeld = kHeldPacks<whole, n>;
    __shared__ float room[2][kMostRowThreads / kWarp];
    const auto count_at = [&](unsigned pack) { return shape.count_at<whole, n>(pack); };
    float w[kHeld + 1][n];
#pragma unroll
    for (int k = 0; k < kHeld; ++k)
        if (const unsigned pack = threadIdx.x + k * blockDim.x; pack < shape.num_packs)
            weight.template load<whole>(w[k], pack * n, count_at(pack));
    const unsigned begin = blockIdx.x * shape.rows_per_block, end = min(begin + shape.rows_per_block, shape.num_rows);
    for (unsigned row = begin; row < end; ++row) {
        const X* from = x.at(row, 0);
        Y* to = y.at(row, 0);
        float held[kHeld + 1][n], sum = 0;
        const auto add_squares = [&](const float(&values)[n]) {
#pragma unroll
            for (const float value : values) sum += value * value;
        };
#pragma unroll
        for (int k = 0; k < kHeld; ++k)
            if (const unsigned pack = threadIdx.x + k * blockDim.x; pack < shape.num_packs) {
                load(held[k], from + pack * n, count_at(pack), whole);
                add_squares(held[k]);
            }
        for (unsigned pack = threadIdx.x + kHeld * blockDim.x; pack < shape.num_packs; pack += blockDim.x) {
            float values[n];
            load(values, from + pack * n, count_at(pack), whole);
            add_squares(values);
        }
        const float scale = 1.0f / sqrtf(over_block(sum, room[row % 2], Add{}) / static_cast<float>(shape.width) + eps);
        if (threadIdx.x == 0) rrms[row] = scale;
        const auto put_scaled = [&](unsigned pack, float(&values)[n], const float(&weights)[n]) {
#pragma unroll
            for (int i = 0; i < n; ++i) values[i] = values[i] * scale * weights[i];
            store(to + pack * n, values, count_at(pack), whole);
        };
#pragma unroll
        for (int k = 0; k < kHeld; ++k)
            if (const unsigned pack = threadIdx.x + k * blockDim.x; pack < shape.num_packs)
                put_scaled(pack, held[k], w[k]);
        for (unsigned pack = threadIdx.x + kHeld * blockDim.x; pack < shape.num_packs; pack += blockDim.x) {
            float values[n], weights[n];
            load(values, from + pack * n, count_at(pack), whole);
            weight.template load<whole>(weights, pack * n, count_at(pack));
            put_scaled(pack, values, weights);
        }
    }
}

}  // namespace

void rmsnorm_forward(cudaStream_t stream, Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps) {
    if (x.count() == 0) return;
    with_types(y.dtype, x.dtype, [&](auto y_type, auto x_type) {
        using Y = typename decltype(y_type)::type;
        using X = typename decltype(x_type)::type;
        constexpr int n = kPack<Y, X>;
        const RowShape shape = row_shape(x, n, kRowsPerBlock);
        const auto kernel = whole_packs(n, x.width(), y, x, weight) ? rmsnorm_forward_kernel<true, Y, X>
                                                                    : rmsnorm_forward_kernel<false, Y, X>;
        kernel<<<num_blocks_of(shape), row_threads(shape, kHeldElements / n), 0, stream>>>(
            rows_of<Y>(y), pointer_to<float>(rrms), rows_of<const X>(x), norm_weight(weight), shape, eps);
        check(cudaGetLastError(), "rmsnorm_forward");
    });
}

}  // namespace longlora::cuda
