// DeviceChoice: which device each rank computes on - what --device asks for, which GPUs the ranks see, and whose is
// which. Ranks decide it together, before anything is opened. What fits on the device is train_device.h's and
// evaluate.cpp's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "parallel/communicator.h"
#include "parallel/host_group.h"
#include "parallel/mesh.h"

namespace longlora {

struct DeviceChoice {
    DeviceKind kind = DeviceKind::cpu;
    int gpu = 0;  ///< cuda: its number among those that this process sees
    std::string gpu_name{};
    std::string note{};  ///< for people: why GPUs that are there are not used; may be empty
};

/// option: auto (GPUs if every rank gets one of its own, else CPUs), cpu or cuda. Collective; all ranks get the same
/// kind, or the same AgreedError: no CUDA in this build, no GPU, an old one, driver and program that do not match, more
/// ranks than GPUs.
DeviceChoice choose_device(const parallel::HostGroup& group, const std::string& option);

/// The choice for a model with heads of so many elements, the same on every rank: where GPUs cannot compute them, an
/// AgreedError (cuda), or CPUs and a note (auto).
DeviceChoice choose_for_heads(const DeviceChoice& choice, const std::string& option, std::int64_t head_dim);

/// seen: by rank the ids (Gpu::id) of the GPUs that it sees, in its numbering. Of the ranks that see the same ones the
/// i-th, by rank, gets the i-th; so it does not matter whether a launcher shows each rank its own GPU or all of the
/// node. Returns by rank the number of its GPU; throws Error(bad_input) when there are more ranks than GPUs, or two
/// ranks would share one.
std::vector<int> deal_gpus(const std::vector<std::vector<std::string>>& seen);

/// A GPU that was dealt to a rank, and where: Gpu::id and the rank's computer.
struct DealtGpu {
    std::string host, id;
};
/// by_rank: dealt ones. Throws Error(bad_input) when two are parts (MIG) of one GPU: NCCL knows GPUs by their place on
/// the bus and joins no two ranks that have the same.
void require_whole_gpus(const std::vector<DealtGpu>& by_rank);

/// Whether --dtype auto is bfloat16 on this rank.
bool good_at_bfloat16(const DeviceChoice& choice);
/// `memory` (the value of --memory), or, when that is empty, this rank's share of the memory that is free on the
/// computer.
std::int64_t memory_limit(const std::string& memory, int ranks_of_node);
/// What this rank's arena may take: `memory` (the value of --memory); or, when that is empty, what is free on the GPU
/// beside CUDA's libraries and the communicators of `shape`, or the rank's share of the computer's free memory.
/// Collective; each rank gets its own number, all the same AgreedError.
std::int64_t device_memory_limit(const parallel::HostGroup& group, const DeviceChoice& choice,
                                 const std::string& memory, parallel::MeshShape shape,
                                 const parallel::CommunicatorOptions& communicator_options);
/// pinned_bytes is a GPU's.
std::unique_ptr<Device> make_device(const DeviceChoice& choice, int threads, std::int64_t memory_bytes,
                                    std::int64_t pinned_bytes);

}  // namespace longlora
