// Launches of the small kernels in runtime_kernels.cu, for the tests of the simulated runtime.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace sim::testing {

/// y += factor x
cudaError_t launch_axpy(float factor, const float* x, float* y, int count, cudaStream_t stream);
/// Reverses the block.x numbers of each block. Needs 4 * block.x bytes of dynamic shared memory.
cudaError_t launch_reverse(float* x, dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream);
/// x[0 .. threads) = 1. The kernel's __launch_bounds__ are 64 threads.
cudaError_t launch_bounded(float* x, unsigned threads, cudaStream_t stream);
const void* reverse_kernel();
const void* bounded_kernel();

}  // namespace sim::testing
