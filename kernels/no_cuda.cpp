// Stands for kernels/cuda in builds without the CUDA toolkit: says so, and what to do. Nothing else.
#include "kernels/device.h"

namespace longlora {

namespace {
constexpr const char* kProblem = "this build has no CUDA backend, since nvcc (of CUDA 12.8 or newer) or nccl.h was not found when it was configured; install the CUDA toolkit and NCCL and build again, or take --device cpu";
}

Gpus find_gpus() { return {kProblem, {}}; }
std::int64_t free_gpu_bytes(int) { fail(kProblem); }
std::unique_ptr<Device> make_cuda_device(const DeviceOptions&) { fail(kProblem); }

}  // namespace longlora
