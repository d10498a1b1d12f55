// NcclOrder: the order in which a rank queued operations on its communicators. Ranks that share several must have one
// common order, else two of them may wait for each other on a real device, where an operation that waits occupies the
// device.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "sim/runtime/nccl_task.h"

namespace sim::runtime {

/// Notes an operation. It counts for the order with those peers from whom it takes and to whom it gives (all, for a
/// collective); one-way messages need no common order with those of other communicators.
void note_order(const ncclComm& comm, const std::vector<Task>& tasks);
/// Collective over all ranks. Misuse with the first difference between this rank and a lower one. Nothing is compared
/// when a rank has aborted.
void compare_orders(MPI_Comm all_ranks, bool aborted);

}  // namespace sim::runtime
