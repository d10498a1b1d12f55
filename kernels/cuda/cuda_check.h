// check: turns a failed CUDA call into one sentence with the name of the call and CUDA's description of the error. The
// caller knows what to do about it.
#pragma once

#include <cuda_runtime.h>

#include "core/error.h"

namespace longlora::cuda {

/// Throws Error(communication): a run loses a device that fails as it loses a rank, and keeps its last checkpoint.
inline void check(cudaError_t status, const char* call) {
    if (status != cudaSuccess)
        fail(text(call, " failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"),
             ExitCode::communication);
}

}  // namespace longlora::cuda
