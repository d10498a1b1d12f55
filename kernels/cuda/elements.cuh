// How kernels access elements. A thread takes a pack, which is neighbouring elements of a row, 16 bytes in the widest
// of their types, so that a warp accesses whole sectors. Shapes and types alone determine which thread takes which
// elements. Addresses determine whether a pack is one access or several, which changes no result.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>

#include "core/tensor.h"

namespace longlora::cuda {

using bfloat16 = __nv_bfloat16;

constexpr int largest_of(std::initializer_list<int> sizes) {
    int most = 0;
    for (const int size : sizes) most = size > most ? size : most;
    return most;
}
/// Elements of a pack for a thread that works on these types.
template <class... T> constexpr int kPack = 16 / largest_of({static_cast<int>(sizeof(T))...});

/// A matrix of T in device memory.
template <class T> struct Rows {
    T* data;
    std::int64_t stride;
    __host__ __device__ T* at(std::int64_t row, unsigned column) const { return data + row * stride + column; }
};

template <class T, class Byte> T* pointer_to(const TensorView<Byte>& t) { return reinterpret_cast<T*>(t.bytes); }
template <class T, class Byte> Rows<T> rows_of(const TensorView<Byte>& t) { return {pointer_to<T>(t), t.row_stride}; }

/// Whether every row of t begins at a multiple of `bytes`.
inline bool aligned_to(const ConstTensor& t, std::int64_t bytes) {
    return reinterpret_cast<std::uintptr_t>(t.bytes) % static_cast<std::uintptr_t>(bytes) == 0 &&
           (t.num_rows() <= 1 || t.row_stride * size_of(t.dtype) % bytes == 0);
}
/// Whether a pack of n elements of each tensor can be one access.
template <class... Tensors> bool packs_aligned(int n, const Tensors&... tensors) {
    return (aligned_to(tensors, n * size_of(tensors.dtype)) && ...);
}

inline __device__ float to_float(float x) { return x; }
inline __device__ float to_float(bfloat16 x) { return __bfloat162float(x); }
inline __device__ void put(float& to, float x) { to = x; }
inline __device__ void put(bfloat16& to, float x) { to = __float2bfloat16_rn(x); }

inline __device__ float low_half(unsigned pair) { return __uint_as_float(pair << 16); }
inline __device__ float high_half(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }
inline __device__ unsigned pair_of(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned*>(&pair);
}

/// Loads a pack as floats in one access.
inline __device__ void load_at_once(float (&to)[4], const float* from) {
    const float4 x = *reinterpret_cast<const float4*>(from);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
}
inline __device__ void load_at_once(float (&to)[4], const bfloat16* from) {
    const uint2 x = *reinterpret_cast<const uint2*>(from);
    to[0] = low_half(x.x), to[1] = high_half(x.x), to[2] = low_half(x.y), to[3] = high_half(x.y);
}
inline __device__ void load_at_once(float (&to)[8], const bfloat16* from) {
    const uint4 x = *reinterpret_cast<const uint4*>(from);
    to[0] = low_half(x.x), to[1] = high_half(x.x), to[2] = low_half(x.y), to[3] = high_half(x.y);
    to[4] = low_half(x.z), to[5] = high_half(x.z), to[6] = low_half(x.w), to[7] = high_half(x.w);
}
/// Loads a pack in two accesses: for small tensors that stay in the cache (weights beside rows of bfloat16).
inline __device__ void load_at_once(float (&to)[8], const float* from) {
    const float4 x = *reinterpret_cast<const float4*>(from), y = *reinterpret_cast<const float4*>(from + 4);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w, to[4] = y.x, to[5] = y.y, to[6] = y.z, to[7] = y.w;
}
inline __device__ void store_at_once(float* to, const float (&from)[4]) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}
inline __device__ void store_at_once(bfloat16* to, const float (&from)[4]) {
    *reinterpret_cast<uint2*>(to) = make_uint2(pair_of(from[0], from[1]), pair_of(from[2], from[3]));
}
inline __device__ void store_at_once(float* to, const float (&from)[8]) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
    *reinterpret_cast<float4*>(to + 4) = make_float4(from[4], from[5], from[6], from[7]);
}
inline __device__ void store_at_once(bfloat16* to, const float (&from)[8]) {
    *reinterpret_cast<uint4*>(to) = make_uint4(pair_of(from[0], from[1]), pair_of(from[2], from[3]),
                                               pair_of(from[4], from[5]), pair_of(from[6], from[7]));
}

/// Loads the first `count` elements of a pack as floats; the others become `beyond`. aligned: load_at_once may be used.
template <class T, int n>
__device__ void load(float (&to)[n], const T* from, int count, bool aligned, float beyond = 0) {
    if (aligned && count == n) return load_at_once(to, from);
#pragma unroll
    for (int i = 0; i < n; ++i) to[i] = i < count ? to_float(from[i]) : beyond;
}
/// Stores the first `count` elements of a pack, rounded to T.
template <class T, int n> __device__ void store(T* to, const float (&from)[n], int count, bool aligned) {
    if (aligned && count == n) return store_at_once(to, from);
#pragma unroll
    for (int i = 0; i < n; ++i)
        if (i < count) put(to[i], from[i]);
}

}  // namespace longlora::cuda
