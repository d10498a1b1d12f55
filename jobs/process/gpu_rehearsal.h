// gpu_rehearsal: measures how much memory of a GPU is left for the arena beside kernels, cuBLAS and the communicators
// of NCCL, by making them once. Which GPU a rank has is decided in jobs/process/device_choice.h; what the memory is
// used for, in jobs/train/fitted_step.cpp and jobs/evaluate/memory.cpp.
#pragma once

#include <cstdint>

#include "parallel/communicator.h"
#include "parallel/host_group.h"
#include "parallel/mesh.h"

namespace longlora {

/// Collective. Bytes that an arena on GPU `gpu` may have while the communicators of `shape` exist. The function makes
/// a small device and the mesh, connects the ranks, multiplies in both types, asks for the free memory, and releases
/// everything. Each rank gets its own number, or all throw the same AgreedError.
std::int64_t rehearsed_gpu_bytes(const parallel::HostGroup& group, int gpu, parallel::MeshShape shape,
                                 const parallel::CommunicatorOptions& communicator_options);

}  // namespace longlora
