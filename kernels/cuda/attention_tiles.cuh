// Tiles of rows in shared memory as bfloat16: how they lie, how they are copied there, how tensor cores read them. No windows, no softmax.
//
// A tile has kWidth columns (head_dim rounded up to 32, 64 or 128; the columns beyond head_dim are 0). Its rows are cut into chunks of 16 bytes; chunk c of row r
// lies at place c ^ s(r), so that the 8 rows of a matrix that ldmatrix reads at the same column lie in 8 different groups of 4 banks: s(r) = r % 8 where a row is
// 128 bytes or more, and (r / 2) % 4 where two rows share 128 bytes.
//
// Addresses cost one XOR: with the swizzle's bits m (7 or 3), chunk 2j + b of a row lies 16 * ((2j + b) ^ s) = 16 * ((2j & m) ^ (b ^ s)) + 16 * (2j & ~m)
// behind the row's start. Each lane computes its row and 16 * (b ^ s) once (TileAddress), and at(j) is an XOR with a constant plus a constant,
// which lies in the instruction; rows 16 further down have the same swizzle, another constant.
#pragma once

#include "kernels/cuda/attention_problem.cuh"
#include "kernels/cuda/ptx.cuh"

namespace longlora::cuda {

template <int kWidth> constexpr int kRowBytes = 2 * kWidth;
template <int kWidth> constexpr int kChunks = kWidth / 8;
template <int kWidth> constexpr unsigned kSwizzleBits = kWidth >= 64 ? 7 : 3;

template <int kWidth> __device__ inline unsigned chunk_offset(int row, int chunk) {
    const int s = kWidth >= 64 ? row & 7 : (row >> 1) & 3;
    return static_cast<unsigned>(row * kRowBytes<kWidth> + ((chunk ^ s) << 4));
}

/// Where a lane's row of ldmatrix.x4 lies in a tile that starts at `tile`. Two orders of the four 8x8 matrices:
///   by_rows     (rows 0-7, chunk 0) (rows 8-15, chunk 0) (rows 0-7, chunk 1) (rows 8-15, chunk 1): operand a of 16 rows;
///               transposed: operand b of 16 rows (its k) and two blocks of 8 columns (its n): b = {r[0], r[1]} and {r[2], r[3]}
///   by_chunks   (rows 0-7, chunk 0) (rows 0-7, chunk 1) (rows 8-15, chunk 0) (rows 8-15, chunk 1): operand b whose n are 16 rows, whose k are 16 columns
template <int kWidth> struct TileAddress {
    unsigned address;
    int rows = 0;    ///< rows further down that are meant, a multiple of 16 known to the compiler: tiles that follow each other share one address

    static __device__ TileAddress by_rows(unsigned tile) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        return {tile + chunk_offset<kWidth>(lane % 16, lane / 16), 0};
    }
    static __device__ TileAddress by_chunks(unsigned tile) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        return {tile + chunk_offset<kWidth>(lane % 8 + lane / 16 * 8, lane / 8 % 2), 0};
    }
    __device__ TileAddress below(int more) const { return {address, rows + more}; }
    /// Rows 16i .., columns 16j ..
    __device__ unsigned at(int i, int j) const {
        constexpr unsigned kMask = 16 * kSwizzleBits<kWidth>;
        const auto columns = static_cast<unsigned>(32 * j);
        return (address ^ (columns & kMask)) + (columns & ~kMask) + static_cast<unsigned>((16 * i + rows) * kRowBytes<kWidth>);
    }
};

/// 16 bytes of a matrix as floats: 4 float32 or 8 bfloat16 that are neighbours in a row. Lanes of a warp that take neighbouring pieces read and write whole sectors.
template <bool kWide> struct Piece {
    static constexpr int kCount = kWide ? 4 : 8;
    float x[kCount];
};

/// Rows that are not aligned go by elements.
__device__ inline void load_piece(Piece<true>& piece, const std::byte* from, bool aligned) {
    if (aligned) {
        const float4 x = *reinterpret_cast<const float4*>(from);
        piece = {{x.x, x.y, x.z, x.w}};
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) piece.x[i] = reinterpret_cast<const float*>(from)[i];
    }
}

__device__ inline void load_piece(Piece<false>& piece, const std::byte* from, bool aligned) {
    if (aligned) {
        const uint4 packed = *reinterpret_cast<const uint4*>(from);
        const std::uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) piece.x[i] = __uint_as_float(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) piece.x[i] = __uint_as_float(static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t*>(from)[i]) << 16);
    }
}

__device__ inline uint4 pack(const float (&x)[8]) { return {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7])}; }

__device__ inline void store_piece(std::byte* to, const Piece<true>& piece, bool aligned) {
    if (aligned) {
        *reinterpret_cast<float4*>(to) = {piece.x[0], piece.x[1], piece.x[2], piece.x[3]};
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) reinterpret_cast<float*>(to)[i] = piece.x[i];
    }
}

__device__ inline void store_piece(std::byte* to, const Piece<false>& piece, bool aligned) {
    const uint4 packed = pack(piece.x);
    if (aligned) {
        *reinterpret_cast<uint4*>(to) = packed;
    } else {
        const std::uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) reinterpret_cast<std::uint16_t*>(to)[i] = static_cast<std::uint16_t>(words[i / 2] >> (i % 2 * 16));
    }
}

/// Eight elements of a matrix of any type and alignment as bfloat16.
__device__ inline uint4 load_chunk(const Matrix& m, const std::byte* from) {
    Piece<false> chunk;
    if (m.wide) {
        Piece<true> half;
        load_piece(half, from, m.aligned);
#pragma unroll
        for (int i = 0; i < 4; ++i) chunk.x[i] = half.x[i];
        load_piece(half, from + 16, m.aligned);
#pragma unroll
        for (int i = 0; i < 4; ++i) chunk.x[4 + i] = half.x[i];
    } else {
        load_piece(chunk, from, m.aligned);
    }
    return pack(chunk.x);
}

/// A thread's part of copying tiles of kRows rows of one matrix by kThreads threads: the same chunk of every (kThreads / kChunks)-th row, so neighbouring threads read whole lines.
template <int kWidth, int kRows, int kThreads> struct TileCopy {
    static constexpr int kRowStep = kThreads / kChunks<kWidth>, kSteps = kRows / kRowStep;
    static_assert(kRows % kRowStep == 0 && kRowStep % 8 == 0, "all rows of a thread have one swizzle");
    Matrix matrix;    ///< from this thread's chunk on
    int row, end;     ///< in a tile; the last row of the matrix that has this chunk, plus one
    unsigned offset;

    __device__ TileCopy(const Matrix& of_head, int num_rows, int head_dim) : matrix(of_head) {
        const int chunk = static_cast<int>(threadIdx.x) % kChunks<kWidth>;
        row = static_cast<int>(threadIdx.x) / kChunks<kWidth>;
        end = 8 * chunk < head_dim ? num_rows : 0;
        offset = chunk_offset<kWidth>(row, chunk);
        matrix.bytes = of_head.at(0, 8 * chunk);
        settle(matrix.bytes);
    }

    /// Rows [begin, begin + kRows) become a tile; those beyond the last, and columns beyond head_dim, are 0. Asynchronous where it can be: wait_for_copies, then a barrier.
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
                store_shared(tile + offset + i * kRowStep * kRowBytes<kWidth>, r < end ? load_chunk(matrix, matrix.at(r, 0)) : uint4{0, 0, 0, 0});
            }
        }
    }
};

/// sums (16 kA rows x 16 kB columns) += a (16 kA rows of a tile) b^T (16 kB rows of another), over columns 16j .. 16j + 15 of both.
template <int kWidth, int kA, int kB>
__device__ __forceinline__ void multiply_rows(float (&sums)[kA][2 * kB][4], const std::uint32_t (&a)[kA][4], TileAddress<kWidth> b, int j) {
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
__device__ __forceinline__ void multiply_rows(float (&sums)[kA][2 * kB][4], TileAddress<kWidth> a, TileAddress<kWidth> b) {
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) {
        std::uint32_t rows[kA][4];
#pragma unroll
        for (int i = 0; i < kA; ++i) load_matrices(rows[i], a.at(i, j));
        multiply_rows<kWidth, kA, kB>(sums, rows, b, j);
    }
}

/// sums (16 kA rows x kWidth) += p (16 kA rows x 16 kB) b (16 kB rows of a tile). p are operands a, in registers.
template <int kWidth, int kA, int kB>
__device__ __forceinline__ void multiply_columns(float (&sums)[kA][kWidth / 8][4], const std::uint32_t (&p)[kA][kB][4], TileAddress<kWidth> b) {
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

/// A result d of 16 x 8 blocks as operand a of the next product: blocks 2k and 2k + 1 are its columns 16k .. 16k + 15, each lane has them already.
template <int kA, int kB> __device__ inline void as_operand(std::uint32_t (&p)[kA][kB][4], const float (&d)[kA][2 * kB][4]) {
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

/// What a row of a matrix becomes: own * result + kept * (what it was), which is not read when kept is 0.
struct Weights {
    float own, kept;
};

/// The second half of write_rows: 16 kA rows of kWidth floats at `staging` go to rows [begin, ...) of a matrix, neighbouring lanes taking neighbouring pieces.
template <int kWidth, int kA, bool kWide, class WeightsOfRow>
__device__ inline void write_staged(const Matrix& m, int begin, int num_rows, int head_dim, unsigned staging, WeightsOfRow&& weights_of_row) {
    constexpr int kPieces = kWidth / Piece<kWide>::kCount;
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
    for (int i = lane; i < 16 * kA * kPieces; i += 32) {
        const int row = i / kPieces, column = i % kPieces * Piece<kWide>::kCount;
        if (begin + row >= num_rows || column >= head_dim) continue;
        const unsigned from = staging + static_cast<unsigned>(row * 4 * kWidth + (column / 4 ^ 2 * (row % 4)) * 16);
        std::byte* const to = m.at(begin + row, column);
        const Weights weights = weights_of_row(row);
        Piece<kWide> piece;
#pragma unroll
        for (int c = 0; c < Piece<kWide>::kCount / 4; ++c) {
            const float4 x = load_shared(from + 16 * c);
            piece.x[4 * c] = weights.own * x.x, piece.x[4 * c + 1] = weights.own * x.y, piece.x[4 * c + 2] = weights.own * x.z, piece.x[4 * c + 3] = weights.own * x.w;
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

/// Writes a warp's results to rows [begin, ...) of a matrix that has num_rows of them, weights_of_row(row) saying how. They go through shared memory of the warp's own,
/// 16 kA rows of 4 * kWidth bytes at `staging`, whose chunks of 16 bytes are swizzled by 2 * (row % 4): neither the writes of 8 bytes nor the reads meet more than twice in a bank.
template <int kWidth, int kA, class WeightsOfRow>
__device__ inline void write_rows(const Matrix& m, int begin, int num_rows, int head_dim, unsigned staging, const float (&results)[kA][kWidth / 8][4], WeightsOfRow&& weights_of_row) {
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < kA; ++i) {
#pragma unroll
        for (int n = 0; n < kWidth / 8; ++n) {
            const unsigned to = staging + static_cast<unsigned>((16 * i + g) * 4 * kWidth + (2 * n + t / 2 ^ 2 * (g % 4)) * 16 + t % 2 * 8);
            store_shared(to, results[i][n][0], results[i][n][1]);
            store_shared(to + 8 * 4 * kWidth, results[i][n][2], results[i][n][3]);
        }
    }
    __syncwarp();
    if (m.wide) write_staged<kWidth, kA, true>(m, begin, num_rows, head_dim, staging, weights_of_row);
    else write_staged<kWidth, kA, false>(m, begin, num_rows, head_dim, staging, weights_of_row);
    __syncwarp();
}

/// Rows [begin, ...) of m += factor * results.
template <int kWidth, int kA>
__device__ inline void add_rows(const Matrix& m, int begin, int num_rows, int head_dim, float factor, unsigned staging, const float (&results)[kA][kWidth / 8][4]) {
    write_rows<kWidth, kA>(m, begin, num_rows, head_dim, staging, results, [&](int) { return Weights{factor, 1}; });
}

/// Calls with_width(std::integral_constant<int, W>) with the smallest W of 32, 64, 128 that is not below head_dim.
template <class Use> void with_width(int head_dim, Use&& use) {
    if (head_dim <= 32) use(std::integral_constant<int, 32>{});
    else if (head_dim <= 64) use(std::integral_constant<int, 64>{});
    else use(std::integral_constant<int, 128>{});
}

}  // namespace longlora::cuda
