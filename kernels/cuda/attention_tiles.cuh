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

constexpr int kWarps = 4, kThreads = 32 * kWarps;   // of every bfloat16 kernel

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

/// Eight neighbouring elements of a row.
struct Eight {
    float x[8];
};

__device__ inline Eight widen(uint4 packed) {
    const std::uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
    Eight e;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        e.x[2 * i] = __uint_as_float(words[i] << 16);
        e.x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
    return e;
}

__device__ inline uint4 narrow(const Eight& e) {
    return {pack_bf16(e.x[0], e.x[1]), pack_bf16(e.x[2], e.x[3]), pack_bf16(e.x[4], e.x[5]), pack_bf16(e.x[6], e.x[7])};
}

/// Eight elements of m that start at `from`, of any type and alignment.
__device__ inline Eight load_eight(const Matrix& m, const std::byte* from) {
    Eight e;
    if (m.wide && m.aligned) {
        const float4 a = reinterpret_cast<const float4*>(from)[0], b = reinterpret_cast<const float4*>(from)[1];
        e = {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
    } else if (m.wide) {
#pragma unroll
        for (int i = 0; i < 8; ++i) e.x[i] = reinterpret_cast<const float*>(from)[i];
    } else if (m.aligned) {
        e = widen(*reinterpret_cast<const uint4*>(from));
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) e.x[i] = __uint_as_float(static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t*>(from)[i]) << 16);
    }
    return e;
}

__device__ inline void store_eight(const Matrix& m, std::byte* to, const Eight& e) {
    if (m.wide && m.aligned) {
        reinterpret_cast<float4*>(to)[0] = {e.x[0], e.x[1], e.x[2], e.x[3]};
        reinterpret_cast<float4*>(to)[1] = {e.x[4], e.x[5], e.x[6], e.x[7]};
    } else if (m.wide) {
#pragma unroll
        for (int i = 0; i < 8; ++i) reinterpret_cast<float*>(to)[i] = e.x[i];
    } else if (m.aligned) {
        *reinterpret_cast<uint4*>(to) = narrow(e);
    } else {
        const uint4 packed = narrow(e);
        const std::uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
        for (int i = 0; i < 8; ++i) reinterpret_cast<std::uint16_t*>(to)[i] = static_cast<std::uint16_t>(words[i / 2] >> (i % 2 * 16));
    }
}

/// A thread's part of copying tiles of kRows rows of one matrix: the same chunk of every (kThreads / kChunks)-th row, so neighbouring threads read whole lines.
template <int kWidth, int kRows> struct TileCopy {
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
                store_shared(tile + offset + i * kRowStep * kRowBytes<kWidth>, r < end ? narrow(load_eight(matrix, matrix.at(r, 0))) : uint4{0, 0, 0, 0});
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

/// A warp's results leave through shared memory, so that global memory sees whole chunks of neighbouring lanes: 16 kA rows of kWidth floats at `staging`,
/// 4 * kWidth bytes each, chunks of 16 bytes swizzled by 2 * (row % 4). `use(row, chunk, eight)` is called for all rows and chunks of 8 columns within head_dim.
template <int kWidth, int kA, class Use>
__device__ inline void for_rows(unsigned staging, const float (&sums)[kA][kWidth / 8][4], int head_dim, Use&& use) {
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < kA; ++i) {
#pragma unroll
        for (int n = 0; n < kWidth / 8; ++n) {
            const unsigned to = staging + static_cast<unsigned>((16 * i + g) * 4 * kWidth + ((2 * n + t / 2) ^ (2 * (g % 4))) * 16 + t % 2 * 8);
            store_shared(to, sums[i][n][0], sums[i][n][1]);
            store_shared(to + 8 * 4 * kWidth, sums[i][n][2], sums[i][n][3]);
        }
    }
    __syncwarp();
    constexpr int kRowStep = 32 / kChunks<kWidth>;
    const int chunk = lane % kChunks<kWidth>;
    if (8 * chunk >= head_dim) return;
#pragma unroll 1
    for (int row = lane / kChunks<kWidth>; row < 16 * kA; row += kRowStep) {
        const unsigned from = staging + static_cast<unsigned>(row * 4 * kWidth + ((2 * chunk) ^ (2 * (row % 4))) * 16);
        const float4 a = load_shared(from), b = load_shared(from + 16);
        use(row, chunk, Eight{{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}});
    }
}

/// Adds a warp's gradients, times factor, to rows [begin, ...) of m, of which there are num_rows.
template <int kWidth, int kA>
__device__ inline void add_rows(const Matrix& m, int begin, int num_rows, float factor, unsigned staging, const float (&sums)[kA][kWidth / 8][4], int head_dim) {
    for_rows<kWidth, kA>(staging, sums, head_dim, [&](int row, int chunk, Eight e) {
        if (begin + row >= num_rows) return;
        std::byte* const at = m.at(begin + row, 8 * chunk);
        const Eight old = load_eight(m, at);
#pragma unroll
        for (int i = 0; i < 8; ++i) e.x[i] = fmaf(factor, e.x[i], old.x[i]);
        store_eight(m, at, e);
    });
    __syncwarp();
}

/// Calls with_width(std::integral_constant<int, W>) with the smallest W of 32, 64, 128 that is not below head_dim.
template <class Use> void with_width(int head_dim, Use&& use) {
    if (head_dim <= 32) use(std::integral_constant<int, 32>{});
    else if (head_dim <= 64) use(std::integral_constant<int, 64>{});
    else use(std::integral_constant<int, 128>{});
}

}  // namespace longlora::cuda
