// NcclConnect: what the first message between two ranks costs. As with the real library the call then waits on the host
// until the other rank makes its call, and takes device memory.
#pragma once

#include <vector>

#include "sim/runtime/nccl_task.h"

namespace sim::runtime {

/// Waits until every rank that a task of the group sends to or receives from for the first time has come to its own
/// first call in that direction. Queued operations go on meanwhile. false: there is no device memory left for the
/// buffers. Misuse after SIM_NCCL_TIMEOUT: a deadlock.
bool connect(ncclComm& comm, const std::vector<Task>& tasks);
void release_buffers(ncclComm& comm);

}  // namespace sim::runtime
