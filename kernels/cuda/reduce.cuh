// Sums and maxima over the threads of a block, in an order that depends on the block's size only, and over what blocks
// left (add_sum).
#pragma once

#include <cuda_runtime.h>

namespace longlora::cuda {

constexpr unsigned kWarp = 32, kMostWarps = 32, kAllLanes = 0xffffffffu;

struct Add {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
/// Of a number and a NaN: the number.
struct Larger {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// The same in all lanes, bit for bit, where combine(a, b) is combine(b, a). All lanes take part.
template <class T, class Combine> __device__ T over_warp(T value, Combine combine) {
#pragma unroll
    for (unsigned distance = kWarp / 2; distance > 0; distance /= 2)
        value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
    return value;
}

/// The same in all threads of a one-dimensional block of whole warps. room: shared memory, one element per warp, that
/// nobody else touches from the last barrier before until the next one behind.
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

/// sum += parts[0 .. count), by one block.
void add_sum(cudaStream_t stream, double* sum, const double* parts, unsigned count, const char* name);

}  // namespace longlora::cuda
