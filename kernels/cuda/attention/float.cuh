// Tiles of the float32 attention kernels: 32 queries by 32 keys, 256 threads, plain fused multiply-adds. Each thread
// computes 2 x 2 scores, and 2 rows x kWidth / 16 columns of a result. Threads load single elements, neighbouring lanes
// neighbouring columns, so any stride and alignment works. The tiles for bfloat16 and tensor cores are in tiles.cuh.
//
// Thread (y, x) = (thread / 16, thread % 16) owns rows y and y + 16. The 16 threads of a row are in one warp, so a row
// needs no barrier of the block to combine its own scores.
#pragma once

#include "kernels/cuda/attention/problem.cuh"

namespace longlora::cuda::plain {

constexpr int kThreads = 256, kTile = 32;

/// Row stride of a tile in floats: 8 lanes that each read 16 bytes of another row read 8 different groups of 4 banks.
template <int kWidth> constexpr int kStride = kWidth + 4;
template <int kWidth> constexpr int kTileFloats = kTile* kStride<kWidth>;
/// Row stride of the scores of a tile: the two rows that a warp writes at the same time lie 16 banks apart.
constexpr int kScoreStride = kTile + 16, kScoreFloats = kTile * kScoreStride;

__device__ inline int thread_y() { return static_cast<int>(threadIdx.x) / 16; }
__device__ inline int thread_x() { return static_cast<int>(threadIdx.x) % 16; }

/// Calls use(row, column) for all places of a tile. Neighbouring threads take neighbouring columns.
template <int kWidth, class Use> __device__ inline void for_places(Use&& use) {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < kTile * kWidth; i += kThreads) use(i / kWidth, i % kWidth);
}

/// Loads rows [begin, begin + 32) of one head. Rows beyond the last and columns beyond head_dim become 0.
template <int kWidth>
__device__ inline void load(float* tile, const ConstMatrix& m, int begin, int num_rows, int head_dim) {
    for_places<kWidth>([&](int row, int column) {
        const bool inside = begin + row < num_rows && column < head_dim;
        tile[row * kStride<kWidth> + column] = inside ? *reinterpret_cast<const float*>(m.at(begin + row, column)) : 0;
    });
}

/// scores[i][j] = a[y + 16 i] . b[x + 16 j], summed in the order of columns.
template <int kWidth>
__device__ inline void multiply_rows(float (&scores)[2][2], const float* a, const float* b, int head_dim) {
    const float *row = a + thread_y() * kStride<kWidth>, *column = b + thread_x() * kStride<kWidth>;
#pragma unroll
    for (int i = 0; i < 2; ++i) scores[i][0] = scores[i][1] = 0;
#pragma unroll 4
    for (int e = 0; e < head_dim; e += 4) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const float4 u = *reinterpret_cast<const float4*>(row + i * 16 * kStride<kWidth> + e);
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                const float4 v = *reinterpret_cast<const float4*>(column + j * 16 * kStride<kWidth> + e);
                scores[i][j] = fmaf(u.w, v.w, fmaf(u.z, v.z, fmaf(u.y, v.y, fmaf(u.x, v.x, scores[i][j]))));
            }
        }
    }
}

/// A thread's part of a result of 32 rows: at[i][m] is row y + 16 i, columns 4 x + 64 m .. 4 x + 64 m + 3.
template <int kWidth> struct Result {
    float4 at[2][kWidth / 64] = {};
};

__device__ inline void add_scaled(float4& sum, float factor, const float4& x) {
    sum.x = fmaf(factor, x.x, sum.x);
    sum.y = fmaf(factor, x.y, sum.y);
    sum.z = fmaf(factor, x.z, sum.z);
    sum.w = fmaf(factor, x.w, sum.w);
}

/// result += scores (32 x 32, rows in the first index) b (32 x kWidth). A thread gives its scores to the other threads
/// of their row through `shared`.
template <int kWidth>
__device__ inline void multiply_columns(Result<kWidth>& result, float* shared, const float (&scores)[2][2],
                                        const float* b) {
    float* const row = shared + thread_y() * kScoreStride;
    __syncwarp();  // no thread reads the previous scores any more
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) row[i * 16 * kScoreStride + thread_x() + 16 * j] = scores[i][j];
    }
    __syncwarp();
#pragma unroll 4
    for (int k = 0; k < kTile; ++k) {
#pragma unroll
        for (int m = 0; m < kWidth / 64; ++m) {
            const float4 x = *reinterpret_cast<const float4*>(b + k * kStride<kWidth> + 64 * m + 4 * thread_x());
#pragma unroll
            for (int i = 0; i < 2; ++i) add_scaled(result.at[i][m], row[i * 16 * kScoreStride + k], x);
        }
    }
}

/// Writes the result to a tile in shared memory, from which it goes to device memory.
template <int kWidth> __device__ inline void store(float* tile, const Result<kWidth>& result) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int m = 0; m < kWidth / 64; ++m)
            *reinterpret_cast<float4*>(tile + (thread_y() + 16 * i) * kStride<kWidth> + 64 * m + 4 * thread_x()) =
                result.at[i][m];
    }
}

/// Adds factor * result to rows [begin, ...) of m. It overwrites `tile`, which no thread may still use.
template <int kWidth>
__device__ inline void add_rows(const Matrix& m, int begin, int num_rows, int head_dim, float factor, float* tile,
                                const Result<kWidth>& result) {
    store<kWidth>(tile, result);
    __syncthreads();
    for_places<kWidth>([&](int row, int column) {
        if (begin + row >= num_rows || column >= head_dim) return;
        float* const at = reinterpret_cast<float*>(m.at(begin + row, column));
        *at = fmaf(factor, tile[row * kStride<kWidth> + column], *at);
    });
}

template <class Use> void with_width(int head_dim, Use&& use) {
    if (head_dim <= 64) use(std::integral_constant<int, 64>{});
    else use(std::integral_constant<int, 128>{});
}

}  // namespace longlora::cuda::plain
