// Replaces kernels/cuda in builds without the CUDA toolkit: says that there is no CUDA, and what to do.
#include "kernels/no_cuda.h"
#include "kernels/device.h"

namespace longlora {

Gpus find_gpus() { return {kNoCuda, {}}; }
std::int64_t free_gpu_bytes(int) { fail(kNoCuda); }
std::unique_ptr<Device> make_cuda_device(const DeviceOptions&) { fail(kNoCuda); }

}  // namespace longlora
