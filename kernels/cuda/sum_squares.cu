// Sums in double: sum_squares, and add_sum of reduce.cuh, which adds the results of the blocks of this and of other
// kernels. Shape and types alone determine which thread adds what.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/types.h"

namespace longlora::cuda {
namespace {

constexpr std::int64_t kMostBlocks = 4096;  // each block writes one sum

__global__ void __launch_bounds__(kThreads) add_sum_kernel(double* sum, const double* parts, unsigned count) {
    __shared__ double room[kThreads / kWarp];
    double part = 0;
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) part += parts[i];
    const double total = over_block(part, room, Add{});
    if (threadIdx.x == 0) *sum += total;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_squares_kernel(double* parts, Rows<const T> x, Sheet sheet, unsigned num_blocks, bool aligned) {
    __shared__ double room[kThreads / kWarp];
    double part = 0;
    for (unsigned block = blockIdx.x; block < num_blocks; block += gridDim.x)
        for_packs<kPack<T>>(sheet, block, [&](std::int64_t row, unsigned column, int count) {
            float values[kPack<T>];
            load(values, x.at(row, column), count, aligned);
#pragma unroll
            for (const float value : values) part += static_cast<double>(value) * static_cast<double>(value);
        });
    // The block is two-dimensional. Numbered row by row, its threads form whole warps in the same order.
    const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
    part = over_warp(part, Add{});
    if (thread % kWarp == 0) room[thread / kWarp] = part;
    __syncthreads();
    if (thread > 0) return;
    for (unsigned warp = 1; warp < kThreads / kWarp; ++warp) part += room[warp];
    parts[blockIdx.x] = part;
}

}  // namespace

void add_sum(cudaStream_t stream, double* sum, const double* parts, unsigned count, const char* name) {
    add_sum_kernel<<<1, kThreads, 0, stream>>>(sum, parts, count);
    check(cudaGetLastError(), name);
}

void sum_squares(cudaStream_t stream, Tensor scratch, Tensor sum, ConstTensor x) {
    with_type(x.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        for_sheets(
            [&](const ConstTensor& t) {
                if (t.count() == 0) return;
                const Blocks blocks = blocks_of(t.num_rows(), t.width(), kPack<T>);
                const auto grid = static_cast<unsigned>(std::min(blocks.num_blocks, kMostBlocks));
                auto* parts = pointer_to<double>(scratch);
                const auto num_blocks = static_cast<unsigned>(blocks.num_blocks);
                sum_squares_kernel<T><<<grid, blocks.threads, 0, stream>>>(parts, rows_of<const T>(t), blocks.sheet,
                                                                           num_blocks, packs_aligned(kPack<T>, t));
                check(cudaGetLastError(), "sum_squares");
                add_sum(stream, pointer_to<double>(sum), parts, grid, "sum_squares");
            },
            x);
    });
}

cudaError_t load_a_kernel() {
    cudaFuncAttributes attributes{};
    return cudaFuncGetAttributes(&attributes, add_sum_kernel);
}

}  // namespace longlora::cuda
