// Sums and maxima over the threads of a warp or block, in an order that depends only on the block's size; and add_sum,
// which adds up the results of many blocks.
#pragma once

#include <cuda_runtime.h>

namespace longlora::cuda {

constexpr unsigned kWarp = 32, kMostWarps = 32, kAllLanes = 0xffffffffu;

struct Add {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
/// Of a number and a NaN it returns the number.
struct Larger {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// Combines the values of a warp. All lanes take part and get the same bits, if combine(a, b) equals combine(b, a).
template <class T, class Combine> __device__ T over_warp(T value, Combine combine) {
#pragma unroll
    for (unsigned distance = kWarp / 2; distance > 0; distance /= 2)
        value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
    return value;
}

/// Combines the values of a one-dimensional block of whole warps; all threads get the same bits. room: shared memory,
/// one element per warp, which no other code uses between the last barrier before this call and the next one after it.
template <class T, class Combine> __device__ T over_block(T value, T* room, Combine combine) {
    const unsigned warp = threadIdx.x / kWarp, num_warps = blockDim.x / kWarp;
    value = over_warp(value, combine);
    if (num_warps == 1) return value;
    if (threadIdx.x % kWarp == 0) room[warp] = value;
    __syncthreads();
    T result = room[0];
    for (unsigned w = 1; w < num_warps; ++w) result = combine(result, room[w]);
    return result;
}

/// sum += parts[0 .. count), computed by one block. name: the operation's name in messages. It is in sum_squares.cu.
void add_sum(cudaStream_t stream, double* sum, const double* parts, unsigned count, const char* name);

}  // namespace longlora::cuda
