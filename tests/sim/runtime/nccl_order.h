// NcclOrder: the order in which a rank queued operations on its communicators. Ranks that share several communicators
// must use one common order. Otherwise two of them may wait for each other on a real device, where an operation that
// waits occupies the device.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "sim/runtime/nccl_task.h"

namespace sim::runtime {

/// Records an operation. It counts for the order with the peers to which it sends and from which it also receives (all
/// peers, for a collective). One-way messages need no common order with operations of other communicators.
void note_order(const ncclComm& comm, const std::vector<Task>& tasks);
/// Collective over all ranks. Misuse that names the first difference between this rank and a lower one. Nothing is
/// compared if a rank has aborted.
void compare_orders(MPI_Comm all_ranks, bool aborted);

}  // namespace sim::runtime
