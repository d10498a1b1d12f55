// elementwise(): one kernel for all operations that go pack by pack over the rows of matrices. An operation is a struct
// of pointers with
//     static constexpr int kElements;
//         the elements of a pack
//     __device__ void operator()(std::int64_t row, unsigned column, int count) const;
//         computes the pack of `count` elements at a row and column
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/elements.cuh"

namespace longlora::cuda {

constexpr unsigned kThreads = 256, kPacksPerThread = 4;

/// How blocks of threads share a matrix: threadIdx.x goes along a row, threadIdx.y over rows.
struct Sheet {
    std::int64_t num_rows;
    unsigned width, num_packs;  ///< elements and packs of a row
    unsigned blocks_per_row;
};

/// Threads of a block along a row: a power of two, so that several narrow rows share a block.
inline unsigned threads_along(std::int64_t num_packs) {
    unsigned threads = 1;
    while (threads < kThreads && threads < num_packs) threads *= 2;
    return threads;
}

/// The launch for num_rows rows of `width` elements in packs of n.
struct Blocks {
    Sheet sheet;
    dim3 threads;
    std::int64_t num_blocks;
};
inline Blocks blocks_of(std::int64_t num_rows, std::int64_t width, int n) {
    ensure(width <= (std::int64_t{1} << 31) - 16, "a row has too many elements for a kernel");
    const std::int64_t num_packs = (width + n - 1) / n;
    const unsigned along = threads_along(num_packs), rows_per_block = kThreads / along;
    const std::int64_t blocks_per_row = (num_packs + along * kPacksPerThread - 1) / (along * kPacksPerThread);
    const std::int64_t num_blocks = blocks_per_row * ((num_rows + rows_per_block - 1) / rows_per_block);
    ensure(num_blocks < (std::int64_t{1} << 31), "a matrix has too many elements for a kernel");
    return {{num_rows, static_cast<unsigned>(width), static_cast<unsigned>(num_packs),
             static_cast<unsigned>(blocks_per_row)},
            dim3(along, rows_per_block),
            num_blocks};
}

/// Calls work(row, column, count) for the packs of this thread in block number `block`.
template <int n, class Work> __device__ void for_packs(const Sheet& sheet, unsigned block, Work&& work) {
    const unsigned row_block = block / sheet.blocks_per_row, column_block = block - row_block * sheet.blocks_per_row;
    const std::int64_t row = std::int64_t{row_block} * blockDim.y + threadIdx.y;
    if (row >= sheet.num_rows) return;
    unsigned pack = column_block * kPacksPerThread * blockDim.x + threadIdx.x;
    for (unsigned k = 0; k < kPacksPerThread && pack < sheet.num_packs; ++k, pack += blockDim.x)
        work(row, pack * n, static_cast<int>(min(static_cast<unsigned>(n), sheet.width - pack * n)));
}

template <class Operation>
__global__ void __launch_bounds__(kThreads) elementwise_kernel(const Operation operation, const Sheet sheet) {
    for_packs<Operation::kElements>(sheet, blockIdx.x, operation);
}

/// Queues the operation for all packs of num_rows rows of `width` elements. name: the operation's name in messages.
template <class Operation>
void elementwise(cudaStream_t stream, const char* name, const Operation& operation, std::int64_t num_rows,
                 std::int64_t width) {
    static_assert(std::is_trivially_copyable_v<Operation>);
    if (num_rows == 0 || width == 0) return;
    const Blocks blocks = blocks_of(num_rows, width, Operation::kElements);
    elementwise_kernel<<<static_cast<unsigned>(blocks.num_blocks), blocks.threads, 0, stream>>>(operation,
                                                                                                blocks.sheet);
    check(cudaGetLastError(), name);
}

/// Calls f with the tensors, which have one shape. If all are contiguous, f gets each of them as one row, and is called
/// several times if that row is too long for 32 bits.
template <class F, class First, class... Others> void for_sheets(F&& f, const First& first, const Others&... others) {
    constexpr std::int64_t kLongest = std::int64_t{1} << 30;
    if (!(first.contiguous() && ... && others.contiguous())) return f(first, others...);
    for (std::int64_t begin = 0; begin < first.count(); begin += kLongest) {
        const std::int64_t n = std::min(kLongest, first.count() - begin);
        f(first.slice(begin, n), others.slice(begin, n)...);
    }
}

}  // namespace longlora::cuda
