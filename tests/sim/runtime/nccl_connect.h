// NcclConnect: the cost of the first message between two ranks. As in the real library, the call then waits on the host
// until the other rank makes its call, and takes device memory.
#pragma once

#include <vector>

#include "sim/runtime/nccl_task.h"

namespace sim::runtime {

/// A task of the group may send to a rank, or receive from it, for the first time. Waits until every such rank has come
/// to its own first call in that direction. Queued operations continue meanwhile. Returns false if there is no device
/// memory left for the buffers. Misuse after SIM_NCCL_TIMEOUT, which means a deadlock.
bool connect(ncclComm& comm, const std::vector<Task>& tasks);
void release_buffers(ncclComm& comm);

}  // namespace sim::runtime
