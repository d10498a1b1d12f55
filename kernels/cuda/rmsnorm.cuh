// What rmsnorm_forward.cu and rmsnorm_backward.cu share: how the threads of a block divide rows. A thread keeps its
// first packs of a row in registers, so it reads them only once. It reads its later packs twice, and also all packs
// of rows that do not consist of whole aligned packs. Only width and types determine the order of sums.
#pragma once

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce.cuh"

namespace longlora::cuda {

constexpr unsigned kMostRowThreads = 512;
constexpr int kHeldElements = 16;  // elements of a row that a thread keeps; a block keeps up to 8192
/// The number of packs of n elements that a thread keeps.
template <bool whole, int n> constexpr int kHeldPacks = whole ? kHeldElements / n : 0;

/// Block b takes the rows [b * rows_per_block, (b + 1) * rows_per_block). Thread i takes the packs i, i + threads,
/// ... of each of them.
struct RowShape {
    unsigned num_rows, width, num_packs, rows_per_block;
    /// The number of elements of a pack: n, or fewer at the end of a row. whole: always n.
    template <bool whole, int n> __device__ int count_at(unsigned pack) const {
        return whole ? n : static_cast<int>(min(static_cast<unsigned>(n), width - pack * n));
    }
};

/// Whether the rows of all tensors consist of whole packs, each of them one memory access. Kernels are compiled once
/// for such rows, and once for all others, whose packs they read element by element and do not keep. So both need few
/// registers.
template <class... Tensors> bool whole_packs(int n, std::int64_t width, const Tensors&... tensors) {
    return width % n == 0 && packs_aligned(n, tensors...);
}

inline RowShape row_shape(const ConstTensor& x, int n, std::int64_t rows_per_block) {
    ensure(x.shape[0] < (std::int64_t{1} << 31) && x.width() < (std::int64_t{1} << 31) - 16,
           "a matrix has too many rows or columns for a kernel");
    return {static_cast<unsigned>(x.shape[0]), static_cast<unsigned>(x.width()),
            static_cast<unsigned>((x.width() + n - 1) / n), static_cast<unsigned>(rows_per_block)};
}
inline unsigned num_blocks_of(const RowShape& shape) {
    return (shape.num_rows + shape.rows_per_block - 1) / shape.rows_per_block;
}

/// The threads of a block: the fewest whole warps that keep a row in registers, with num_held packs per thread.
inline unsigned row_threads(const RowShape& shape, unsigned num_held) {
    const unsigned threads = (shape.num_packs + num_held - 1) / num_held;
    return std::clamp((threads + kWarp - 1) / kWarp * kWarp, kWarp, kMostRowThreads);
}

/// The weight: bfloat16 if narrow, otherwise float32.
struct NormWeight {
    const void* data;
    bool narrow;
    template <bool whole, int n> __device__ void load(float (&to)[n], unsigned column, int count) const {
        if (narrow) cuda::load(to, static_cast<const bfloat16*>(data) + column, count, whole);
        else cuda::load(to, static_cast<const float*>(data) + column, count, whole);
    }
};
inline NormWeight norm_weight(const ConstTensor& weight) { return {weight.bytes, weight.dtype == DType::bfloat16}; }

}  // namespace longlora::cuda
