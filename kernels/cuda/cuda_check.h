// cuda_check: a CUDA call that fails becomes one sentence with the call's name and CUDA's own words. What to do about
// it is the caller's.
#pragma once

#include <cuda_runtime.h>

#include "core/error.h"

namespace longlora::cuda {

/// Throws Error(communication): a device that fails under way is lost to the run, as a rank is; the last checkpoint
/// stays.
inline void check(cudaError_t status, const char* call) {
    if (status != cudaSuccess)
        fail(text(call, " failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"),
             ExitCode::communication);
}

}  // namespace longlora::cuda
