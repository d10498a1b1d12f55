// Machine: the device that this rank computes on, with its communicators along the mesh. Resources: what is known
// before the device exists. Not here: which device a rank gets (device_choice.h), and how much memory its work needs
// (jobs/train/fitted_step.h, jobs/evaluate/memory.h).
#pragma once

#include <cstdint>
#include <memory>

#include "jobs/process/device_choice.h"
#include "jobs/process/watched_group.h"
#include "parallel/mesh_communicators.h"

namespace longlora {

/// What this rank may use.
struct Resources {
    DeviceChoice choice;
    parallel::MeshShape shape;
    int threads = 1;
    std::int64_t memory_bytes = 0;  ///< the most that the device's arena may have
};

/// Communicators with these options tell `watched`, which must outlive them, while this rank waits for messages.
parallel::CommunicatorOptions communicator_options_of(WatchedGroup& watched);

struct Machine {
    const Resources resources;
    const std::unique_ptr<Device> device;
    parallel::MeshCommunicators mesh;  ///< destroyed before the device

    /// Makes the communicators. From then on, whenever the device calls back during long work or a wait, messages move
    /// and `watched` is notified. `watched` must outlive the machine. Collective.
    Machine(WatchedGroup& watched, const Resources& given, std::unique_ptr<Device> ready);
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
};

}  // namespace longlora
