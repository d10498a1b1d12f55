// What a communicator that calls CUDA libraries itself needs of a CUDA device: its streams. Everything else goes
// through kernels/device.h.
#pragma once

#include <cuda_runtime.h>

#include "kernels/device.h"

namespace longlora::cuda {

/// CUDA's name of a stream of the device, which is one made by make_cuda_device. It stays the device's; make_stream,
/// record and wait order work on it.
cudaStream_t native_stream(const Device& device, Stream stream);

}  // namespace longlora::cuda
