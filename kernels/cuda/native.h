// native_stream: gives a communicator that calls CUDA libraries itself the stream of a CUDA device
// (src/parallel/nccl). Everything else goes through kernels/device.h.
#pragma once

#include <cuda_runtime.h>

#include "kernels/device.h"

namespace longlora::cuda {

/// Returns CUDA's handle of a stream. make_cuda_device has made the device, which keeps owning the stream. Device's
/// make_stream, record and wait order the work on it.
cudaStream_t native_stream(const Device& device, Stream stream);

}  // namespace longlora::cuda
