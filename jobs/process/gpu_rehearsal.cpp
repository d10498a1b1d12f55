// The memory that NCCL takes depends on its version, the network and the number of ranks (hundreds of MB to
// gigabytes), and is taken when ranks connect. So this file measures it.
#include "jobs/process/gpu_rehearsal.h"

#include <algorithm>

#include "kernels/device.h"
#include "parallel/agree.h"
#include "parallel/mesh_communicators.h"

namespace longlora {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kStage = 16 * kMiB;   // for the tensors of the rehearsal
constexpr std::int64_t kSpare = 256 * kMiB;  // for memory that drivers take later

/// Multiplies once, because cuBLAS loads its kernels at its first use.
void multiply(Device& device, DType type) {
    const ArenaTensor a = device.memory().tensor(type, {64, 64}, Use::workspace),
                      out = device.memory().tensor(type, {64, 64}, Use::workspace);
    device.ops().fill(*a, 0);
    device.ops().matmul(*out, *a, *a, Transpose::no, Transpose::yes);
    device.synchronize(Device::compute_stream());
}

}  // namespace

std::int64_t rehearsed_gpu_bytes(const parallel::HostGroup& group, int gpu, parallel::MeshShape shape,
                                 const parallel::CommunicatorOptions& communicator_options) {
    DeviceOptions small;
    small.memory_bytes = cuda_own_bytes() + kStage;
    small.pinned_bytes = kMiB;
    small.gpu = gpu;
    std::unique_ptr<Device> device;
    parallel::agree(group, [&] {
        if (group.size() > 1) parallel::require_nccl();
        device = make_cuda_device(small);
    });
    const parallel::MeshCommunicators mesh = parallel::make_mesh(*device, group.handle(), shape, communicator_options);
    std::int64_t left = 0;
    parallel::agree(group, [&] {
        for (const DType type : {DType::bfloat16, DType::float32}) multiply(*device, type);
        left = std::max<std::int64_t>(free_gpu_bytes(gpu) + small.memory_bytes - kSpare, 0);
    });
    return left;
}

}  // namespace longlora
