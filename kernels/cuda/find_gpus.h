// usable_gpu: checks that a GPU can be used for a device. The list of all GPUs is find_gpus() in kernels/device.h.
#pragma once

#include "kernels/device.h"

namespace longlora::cuda {

/// Returns GPU `index` of those that find_gpus() lists and makes it the current GPU of this thread. Throws an Error
/// with one sentence: bad_input when the GPU does not exist, is too old or cannot run this program's kernels,
/// does_not_fit when memory_bytes are not free on it.
Gpu usable_gpu(int index, std::int64_t memory_bytes);

}  // namespace longlora::cuda
