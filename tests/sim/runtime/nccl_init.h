// NcclInit: how ranks that hold the same unique id find each other and make a communicator.
#pragma once

#include <nccl.h>

#include <string>

namespace sim::runtime {

/// The sentence that ncclGetLastError returns.
std::string& nccl_last_error();

/// An id that contains the caller's rank in the world, at which the others meet, and a number.
ncclUniqueId make_unique_id();
/// Collective over the `size` ranks that call it with the same id. No other rank takes part.
ncclResult_t join(ncclComm_t* comm, int size, const ncclUniqueId& id, int rank, int device);
void leave(ncclComm_t comm);

}  // namespace sim::runtime
