// Tiles of bfloat16 rows in shared memory: their layout, how they are copied there, how tensor cores read them. No
// windows, no softmax. The tiles of the float32 kernels are in float.cuh.
//
// A tile has kWidth columns: head_dim rounded up to 32, 64 or 128; the columns beyond head_dim are 0. Its rows are cut
// into chunks of 16 bytes. Chunk c of row r lies at place c ^ s(r), with
//   s(r) = r % 8          where a row has 128 bytes or more,
//   s(r) = (r / 2) % 4    where two rows share 128 bytes.
// So the 8 rows of a matrix that ldmatrix reads at the same column lie in 8 different groups of 4 banks.
//
// An address costs one XOR. With the bits m of the swizzle (7 or 3), chunk 2j + b of a row begins
//   16 * ((2j + b) ^ s) = 16 * ((2j & m) ^ (b ^ s)) + 16 * (2j & ~m)
// bytes behind the start of the row. Each lane computes its row and 16 * (b ^ s) once (TileAddress). Then at(i, j) is
// an XOR with a constant plus a constant that is part of the load instruction. Rows 16 further down have the same
// swizzle, so they need only another constant.
#pragma once

#include <type_traits>

#include "kernels/cuda/attention/pieces.cuh"

namespace longlora::cuda {

template <int kWidth> constexpr int kRowBytes = 2 * kWidth;
template <int kWidth> constexpr int kChunks = kWidth / 8;
template <int kWidth> constexpr unsigned kSwizzleBits = kWidth >= 64 ? 7 : 3;

template <int kWidth> __device__ inline unsigned chunk_offset(int row, int chunk) {
    const int s = kWidth >= 64 ? row & 7 : (row >> 1) & 3;
    return static_cast<unsigned>(row * kRowBytes<kWidth> + ((chunk ^ s) << 4));
}

/// Where the row that a lane gives to ldmatrix.x4 lies in a tile that starts at `tile`. The four 8x8 matrices have one
/// of two orders:
///   by_rows     (rows 0-7, chunk 0) (rows 8-15, chunk 0) (rows 0-7, chunk 1) (rows 8-15, chunk 1)
///               loaded as they are: operand a of 16 rows
///               loaded transposed: operand b of 16 rows (its k) and two blocks of 8 columns (its n),
///               b = {r[0], r[1]} and {r[2], r[3]}
///   by_chunks   (rows 0-7, chunk 0) (rows 0-7, chunk 1) (rows 8-15, chunk 0) (rows 8-15, chunk 1)
///               loaded as they are: operand b whose n are 16 rows and whose k are 16 columns
template <int kWidth> struct TileAddress {
    unsigned address;
    /// How many rows further down the address points. The compiler knows this multiple of 16, so that tiles that lie
    /// behind each other share one register for the address.
    int rows = 0;

    static __device__ TileAddress by_rows(unsigned tile) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        return {tile + chunk_offset<kWidth>(lane % 16, lane / 16), 0};
    }
    static __device__ TileAddress by_chunks(unsigned tile) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        return {tile + chunk_offset<kWidth>(lane % 8 + lane / 16 * 8, lane / 8 % 2), 0};
    }
    __device__ TileAddress below(int more) const { return {address, rows + more}; }
    /// The address for rows 16i .. 16i + 15 and columns 16j .. 16j + 15.
    __device__ unsigned at(int i, int j) const {
        constexpr unsigned kMask = 16 * kSwizzleBits<kWidth>;
        const auto columns = static_cast<unsigned>(32 * j);
        return (address ^ (columns & kMask)) + (columns & ~kMask) +
               static_cast<unsigned>((16 * i + rows) * kRowBytes<kWidth>);
    }
};

/// Copies tiles of kRows rows of one matrix with kThreads threads. A thread copies the same chunk of every
/// (kThreads / kChunks)-th row, so neighbouring threads read whole lines.
template <int kWidth, int kRows, int kThreads> struct TileCopy {
    static constexpr int kRowStep = kThreads / kChunks<kWidth>, kSteps = kRows / kRowStep;
    static_assert(kRows % kRowStep == 0 && kRowStep % 8 == 0, "all rows of a thread have one swizzle");
    ConstMatrix matrix;  ///< from this thread's chunk on
    int row, end;        ///< in a tile; the last row of the matrix that has this chunk, plus one
    unsigned offset;

    __device__ TileCopy(const ConstMatrix& of_head, int num_rows, int head_dim) : matrix(of_head) {
        const int chunk = static_cast<int>(threadIdx.x) % kChunks<kWidth>;
        row = static_cast<int>(threadIdx.x) / kChunks<kWidth>;
        end = 8 * chunk < head_dim ? num_rows : 0;
        offset = chunk_offset<kWidth>(row, chunk);
        matrix.bytes = of_head.at(0, 8 * chunk);
        settle(matrix.bytes);
    }

    /// Copies rows [begin, begin + kRows) to a tile. Rows beyond the last and columns beyond head_dim become 0. The
    /// copy is asynchronous where possible: the tile is complete after wait_for_copies and a barrier.
    __device__ void operator()(unsigned tile, int begin) const {
        if (matrix.aligned && !matrix.wide) {
#pragma unroll
            for (int i = 0; i < kSteps; ++i) {
                const int r = begin + row + i * kRowStep;
                copy_async(tile + offset + i * kRowStep * kRowBytes<kWidth>, matrix.at(r, 0), r < end ? 16 : 0);
            }
        } else {
#pragma unroll 1
            for (int i = 0; i < kSteps; ++i) {
                const int r = begin + row + i * kRowStep;
                store_shared(tile + offset + i * kRowStep * kRowBytes<kWidth>,
                             r < end ? load_chunk(matrix, matrix.at(r, 0)) : uint4{0, 0, 0, 0});
            }
        }
    }
};

/// sums (16 kA rows x 16 kB columns) += a (16 kA rows of a tile) b^T (16 kB rows of another tile), over columns
/// 16j .. 16j + 15 of both.
template <int kWidth, int kA, int kB>
__device__ __forceinline__ void multiply_rows(float (&sums)[kA][2 * kB][4], const std::uint32_t (&a)[kA][4],
                                              TileAddress<kWidth> b, int j) {
#pragma unroll
    for (int n = 0; n < kB; ++n) {
        std::uint32_t columns[4];
        load_matrices(columns, b.at(n, j));
#pragma unroll
        for (int i = 0; i < kA; ++i) {
            multiply_add(sums[i][2 * n], a[i], columns[0], columns[1]);
            multiply_add(sums[i][2 * n + 1], a[i], columns[2], columns[3]);
        }
    }
}

/// The same over all columns.
template <int kWidth, int kA, int kB>
__device__ __forceinline__ void multiply_rows(float (&sums)[kA][2 * kB][4], TileAddress<kWidth> a,
                                              TileAddress<kWidth> b) {
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) {
        std::uint32_t rows[kA][4];
#pragma unroll
        for (int i = 0; i < kA; ++i) load_matrices(rows[i], a.at(i, j));
        multiply_rows<kWidth, kA, kB>(sums, rows, b, j);
    }
}

/// sums (16 kA rows x kWidth) += p (16 kA rows x 16 kB) b (16 kB rows of a tile). p holds operands a in registers.
template <int kWidth, int kA, int kB>
__device__ __forceinline__ void multiply_columns(float (&sums)[kA][kWidth / 8][4], const std::uint32_t (&p)[kA][kB][4],
                                                 TileAddress<kWidth> b) {
#pragma unroll
    for (int k = 0; k < kB; ++k) {
#pragma unroll
        for (int j = 0; j < kWidth / 16; ++j) {
            std::uint32_t columns[4];
            load_matrices_transposed(columns, b.at(k, j));
#pragma unroll
            for (int i = 0; i < kA; ++i) {
                multiply_add(sums[i][2 * j], p[i][k], columns[0], columns[1]);
                multiply_add(sums[i][2 * j + 1], p[i][k], columns[2], columns[3]);
            }
        }
    }
}

/// Turns a result d of 16 x 8 blocks into operand a of the next product. Blocks 2k and 2k + 1 become its columns
/// 16k .. 16k + 15; each lane already has the elements that it needs.
template <int kA, int kB>
__device__ inline void as_operand(std::uint32_t (&p)[kA][kB][4], const float (&d)[kA][2 * kB][4]) {
#pragma unroll
    for (int i = 0; i < kA; ++i) {
#pragma unroll
        for (int k = 0; k < kB; ++k) {
            p[i][k][0] = pack_bf16(d[i][2 * k][0], d[i][2 * k][1]);
            p[i][k][1] = pack_bf16(d[i][2 * k][2], d[i][2 * k][3]);
            p[i][k][2] = pack_bf16(d[i][2 * k + 1][0], d[i][2 * k + 1][1]);
            p[i][k][3] = pack_bf16(d[i][2 * k + 1][2], d[i][2 * k + 1][3]);
        }
    }
}

/// Calls use(std::integral_constant<int, W>{}) with the smallest W of 32, 64, 128 that is not below head_dim.
template <class Use> void with_width(int head_dim, Use&& use) {
    if (head_dim <= 32) use(std::integral_constant<int, 32>{});
    else if (head_dim <= 64) use(std::integral_constant<int, 64>{});
    else use(std::integral_constant<int, 128>{});
}

}  // namespace longlora::cuda
