// usable_gpu: the GPU for a device, or the sentence why there is none.
#pragma once

#include "kernels/device.h"

namespace longlora::cuda {

/// GPU `index` of those that find_gpus sees, made the current one of this thread. Throws Error(bad_input) with one
/// sentence when it is not there, too old, or has not memory_bytes free.
Gpu usable_gpu(int index, std::int64_t memory_bytes);

}  // namespace longlora::cuda
