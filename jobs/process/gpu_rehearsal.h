// gpu_rehearsal: how much of a GPU is ours beside what kernels, cuBLAS and NCCL's communicators take there, found by
// making them once. Whose GPU it is says device_choice.h, what is done with the memory train_device.h and evaluate.cpp.
#pragma once

#include <cstdint>

#include "parallel/communicator.h"
#include "parallel/host_group.h"
#include "parallel/mesh.h"

namespace longlora {

/// Bytes that an arena on GPU `gpu` may have while the communicators of `shape` are there. Makes a small device and the
/// mesh, connects its ranks, multiplies in both types, asks, and gives all back. Collective; each rank gets its own
/// number, all the same AgreedError.
std::int64_t rehearsed_gpu_bytes(const parallel::HostGroup& group, int gpu, parallel::MeshShape shape,
                                 const parallel::CommunicatorOptions& communicator_options);

}  // namespace longlora
