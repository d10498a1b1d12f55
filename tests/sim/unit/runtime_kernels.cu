// Small kernels for the tests of the simulated runtime. nvcc compiles them in the same way as the product's kernels.
#include "sim/unit/runtime_kernels.h"

namespace sim::testing {
namespace {

struct Terms {
    float factor;
    int count;
    const float* x;
    float* y;
};

__global__ void axpy(Terms terms) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < terms.count) terms.y[i] = terms.factor * terms.x[i] + terms.y[i];
}

/// Reverses each block's numbers through dynamic shared memory.
__global__ void reverse(float* x) {
    extern __shared__ float numbers[];
    const unsigned i = threadIdx.x, last = blockDim.x - 1;
    numbers[i] = x[blockIdx.x * blockDim.x + i];
    __syncthreads();
    x[blockIdx.x * blockDim.x + i] = numbers[last - i];
}

__global__ void __launch_bounds__(64) at_most_64_threads(float* x) { x[threadIdx.x] = 1; }

}  // namespace

cudaError_t launch_axpy(float factor, const float* x, float* y, int count, cudaStream_t stream) {
    axpy<<<dim3(static_cast<unsigned>((count + 127) / 128)), dim3(128), 0, stream>>>({factor, count, x, y});
    return cudaGetLastError();
}

cudaError_t launch_reverse(float* x, dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, reverse, x);
}

cudaError_t launch_bounded(float* x, unsigned threads, cudaStream_t stream) {
    at_most_64_threads<<<dim3(1), dim3(threads), 0, stream>>>(x);
    return cudaGetLastError();
}

const void* reverse_kernel() { return reinterpret_cast<const void*>(&reverse); }
const void* bounded_kernel() { return reinterpret_cast<const void*>(&at_most_64_threads); }

}  // namespace sim::testing
