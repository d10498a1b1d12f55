// Pieces of 16 bytes: how the bfloat16 kernels read and write rows of a matrix of either type and any alignment, where
// they do not copy tiles asynchronously (TileCopy in tiles.cuh).
#pragma once

#include "kernels/cuda/attention/problem.cuh"
#include "kernels/cuda/ptx.cuh"

namespace longlora::cuda {

/// 16 bytes of a matrix as floats: 4 neighbouring float32 of a row (kWide) or 8 neighbouring bfloat16. Lanes of a warp
/// that take neighbouring pieces read and write whole sectors.
template <bool kWide> struct Piece {
    static constexpr int kCount = kWide ? 4 : 8;
    float x[kCount];
};

/// Rows that are not aligned are read element by element.
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
        for (int i = 0; i < 8; ++i)
            piece.x[i] = __uint_as_float(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
            piece.x[i] =
                __uint_as_float(static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t*>(from)[i]) << 16);
    }
}

__device__ inline uint4 pack(const float (&x)[8]) {
    return {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7])};
}

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
        for (int i = 0; i < 8; ++i)
            reinterpret_cast<std::uint16_t*>(to)[i] = static_cast<std::uint16_t>(words[i / 2] >> (i % 2 * 16));
    }
}

/// Loads eight elements of a matrix of any type and alignment as bfloat16.
__device__ inline uint4 load_chunk(const ConstMatrix& m, const std::byte* from) {
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

}  // namespace longlora::cuda
