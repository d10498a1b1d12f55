// Stands for kernels/cuda in builds without the CUDA toolkit: says so, and what to do. Nothing else.
#include "kernels/no_cuda.h"
#include "kernels/device.h"

namespace longlora {

Gpus find_gpus() { return {kNoCuda, {}}; }
std::int64_t free_gpu_bytes(int) { fail(kNoCuda); }
std::unique_ptr<Device> make_cuda_device(const DeviceOptions&) { fail(kNoCuda); }

}  // namespace longlora
