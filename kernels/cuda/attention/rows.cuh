// How a warp writes its results, which lie in registers as tensor cores leave them, to rows of a matrix: through shared
// memory, so that it writes device memory in whole sectors.
#pragma once

#include "kernels/cuda/attention/pieces.cuh"

namespace longlora::cuda {

/// The new row of a matrix is own * result + kept * (the old row). With kept = 0 the old row is not read.
struct Weights {
    float own, kept;
};

/// Where chunk c (16 bytes) of a row of kWidth floats lies in the shared memory through which results leave. Within its
/// line of 128 bytes the chunk goes to place (c / 2) % 4 ^ row % 4, in the upper half of the line if c plus the number
/// of the line is odd. So none of these accesses meets a bank twice: writes of 8 bytes by 4 rows x 4 lanes, reads of
/// neighbouring chunks, and reads of every second chunk.
template <int kWidth> __device__ inline unsigned staged_offset(int row, int c) {
    const int place = (c >> 1 ^ row) & 3, upper = (c ^ c >> 3 ^ row * (kWidth / 32)) & 1;
    return static_cast<unsigned>(row * 4 * kWidth + (c >> 3) * 128 + place * 16 + upper * 64);
}

/// The second half of write_rows: writes the 16 kA rows of kWidth floats at `staging` to rows [begin, ...) of a matrix.
/// Neighbouring lanes take neighbouring pieces.
template <int kWidth, int kA, bool kWide, class WeightsOfRow>
__device__ inline void write_staged(const Matrix& m, int begin, int num_rows, int head_dim, unsigned staging,
                                    WeightsOfRow&& weights_of_row) {
    constexpr int kPieces = kWidth / Piece<kWide>::kCount;
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
    for (int i = lane; i < 16 * kA * kPieces; i += 32) {
        const int row = i / kPieces, column = i % kPieces * Piece<kWide>::kCount;
        if (begin + row >= num_rows || column >= head_dim) continue;
        const unsigned from = staging + staged_offset<kWidth>(row, column / 4);
        std::byte* const to = m.at(begin + row, column);
        const Weights weights = weights_of_row(row);
        Piece<kWide> piece;
#pragma unroll
        for (int c = 0; c < Piece<kWide>::kCount / 4; ++c) {
            const float4 x = load_shared(c ? from ^ 64 : from);
            piece.x[4 * c] = weights.own * x.x, piece.x[4 * c + 1] = weights.own * x.y,
                        piece.x[4 * c + 2] = weights.own * x.z, piece.x[4 * c + 3] = weights.own * x.w;
        }
        if (weights.kept != 0) {
            Piece<kWide> old;
            load_piece(old, to, m.aligned);
#pragma unroll
            for (int c = 0; c < Piece<kWide>::kCount; ++c) piece.x[c] = fmaf(weights.kept, old.x[c], piece.x[c]);
        }
        store_piece(to, piece, m.aligned);
    }
}

/// Writes a warp's results to rows [begin, ...) of a matrix of num_rows rows, with weights_of_row(row). The results go
/// through shared memory that belongs to the warp: 16 kA rows of 4 * kWidth bytes at `staging`.
template <int kWidth, int kA, class WeightsOfRow>
__device__ inline void write_rows(const Matrix& m, int begin, int num_rows, int head_dim, unsigned staging,
                                  const float (&results)[kA][kWidth / 8][4], WeightsOfRow&& weights_of_row) {
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < kA; ++i) {
#pragma unroll
        for (int n = 0; n < kWidth / 8; ++n) {
            const unsigned to = staging + staged_offset<kWidth>(g, 2 * n + t / 2) +
                                static_cast<unsigned>(16 * i * 4 * kWidth + t % 2 * 8);
            store_shared(to, results[i][n][0], results[i][n][1]);
            store_shared(to + 8 * 4 * kWidth, results[i][n][2], results[i][n][3]);
        }
    }
    __syncwarp();
    if (m.wide) write_staged<kWidth, kA, true>(m, begin, num_rows, head_dim, staging, weights_of_row);
    else write_staged<kWidth, kA, false>(m, begin, num_rows, head_dim, staging, weights_of_row);
}

/// Rows [begin, ...) of m += factor * results.
template <int kWidth, int kA>
__device__ inline void add_rows(const Matrix& m, int begin, int num_rows, int head_dim, float factor, unsigned staging,
                                const float (&results)[kA][kWidth / 8][4]) {
    write_rows<kWidth, kA>(m, begin, num_rows, head_dim, staging, results, [&](int) { return Weights{factor, 1}; });
}

}  // namespace longlora::cuda
