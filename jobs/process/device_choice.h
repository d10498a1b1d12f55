// DeviceChoice: which device each rank computes on. It follows from --device and from the GPUs that the ranks see;
// the ranks decide it together before they open anything. What fits on the device is decided in
// jobs/train/fitted_step.cpp and jobs/evaluate/memory.cpp.
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
    int gpu = 0;  ///< cuda: the number of the GPU in this process
    std::string gpu_name{};
    std::string note{};  ///< for people: why the visible GPUs are not used; may be empty
};

/// Collective. option: auto (GPUs if every rank gets one of its own, else CPUs), cpu or cuda. All ranks get the same
/// kind, or throw the same AgreedError: this build has no CUDA, there is no GPU, it is too old, driver and program do
/// not match, or there are more ranks than GPUs.
DeviceChoice choose_device(const parallel::HostGroup& group, const std::string& option);

/// The choice for a model with heads of `head_dim` elements, the same on every rank. If GPUs cannot compute such
/// heads, it is an AgreedError (with --device cuda), or CPUs and a note (with auto).
DeviceChoice choose_for_heads(const DeviceChoice& choice, const std::string& option, std::int64_t head_dim);

/// Distributes GPUs to ranks. seen: for each rank the ids (Gpu::id) of the GPUs that it sees, in its own numbering.
/// Among ranks that see the same list, the i-th rank gets the i-th GPU of the list, so it does not matter whether a
/// launcher shows each rank its own GPU or all GPUs of the node. Returns for each rank the number of its GPU. Throws
/// Error(bad_input) if there are more ranks than GPUs or two ranks would share one.
std::vector<int> assign_gpus(const std::vector<std::vector<std::string>>& seen);

/// The GPU of a rank: the computer of the rank and Gpu::id.
struct AssignedGpu {
    std::string host, id;
};
/// by_rank: the GPU of each rank. Throws Error(bad_input) if two are parts (MIG) of one GPU: NCCL identifies a GPU by
/// its place on the bus and refuses two ranks with the same place.
void require_whole_gpus(const std::vector<AssignedGpu>& by_rank);

/// Whether --dtype auto means bfloat16 on this rank.
bool good_at_bfloat16(const DeviceChoice& choice);
/// Bytes of `memory` (the value of --memory). If it is empty: this rank's share of nine tenths of the memory that is
/// free on the computer.
std::int64_t memory_limit(const std::string& memory, int ranks_of_node);
/// Collective. The bytes that this rank's arena may have: `memory` (the value of --memory). If it is empty: what is
/// free on the GPU beside CUDA's libraries and the communicators of `shape`, or the rank's share of the free memory
/// of the computer. Each rank gets its own number, or all throw the same AgreedError, as when `memory` is more than
/// the GPU has free.
std::int64_t device_memory_limit(const parallel::HostGroup& group, const DeviceChoice& choice,
                                 const std::string& memory, parallel::MeshShape shape,
                                 const parallel::CommunicatorOptions& communicator_options);
/// pinned_bytes: pinned host memory of a CUDA device; a CPU device ignores it.
std::unique_ptr<Device> make_device(const DeviceChoice& choice, int threads, std::int64_t memory_bytes,
                                    std::int64_t pinned_bytes);

}  // namespace longlora
