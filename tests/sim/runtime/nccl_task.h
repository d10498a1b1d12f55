// NcclTask: one NCCL call of one rank, a communicator, and how calls become queued operations. The functions of the API
// are in nccl.cpp.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sim/runtime/nccl_exchange.h"
#include "sim/runtime/queue.h"

namespace sim::runtime {

enum class Kind : std::uint32_t { send_receive, all_gather, reduce_scatter, all_reduce, broadcast };
std::string name_of(Kind kind);

struct Task {
    const char* call = "";  ///< "ncclSend"
    Kind kind = Kind::send_receive;
    bool outgoing = false;  ///< for send_receive
    const std::byte* from = nullptr;
    std::byte* to = nullptr;
    /// As in the call: for all_gather the part that a rank sends, for reduce_scatter the part that it receives.
    std::size_t count = 0;
    ncclDataType_t type = ncclUint8;
    ncclRedOp_t reduction = ncclSum;
    int peer = -1;  ///< for send_receive; for broadcast the root
    std::shared_ptr<CUstream_st> stream{};
};

}  // namespace sim::runtime

/// A communicator; NCCL's header declares the type without defining it.
struct ncclComm {
    std::uint64_t id = 0;  ///< the same on all ranks, different from all others
    int rank = 0, size = 1, device = 0;
    std::vector<int> world_ranks{};  ///< by rank
    MPI_Comm messages = MPI_COMM_NULL;
    sim::runtime::MessageCounts counts{};
    std::vector<bool> connected_to{}, connected_from{};  ///< by rank: whether a first message has been sent, received
    std::vector<void*> buffers{};                        ///< device memory of the connections
    std::uint64_t issued = 0;                            ///< operations that were queued; a group counts once
    sim::runtime::Point last{};                          ///< the end of the last operation
    bool blocking = true;
    ncclResult_t failed = ncclSuccess;  ///< the error after the calls, for ncclCommGetAsyncError
    bool in_progress = false;  ///< if not blocking: the caller has not asked yet whether its last call is complete
};

namespace sim::runtime {

/// "0.3" is the fourth id that rank 0 of the world made.
std::string name_of_communicator(std::uint64_t id);
/// "communicator 0.3 (rank 1 of 4)"
std::string describe(const ncclComm& comm);
/// Throws Misuse if the pointers or the stream of a call are not on the communicator's device.
void check_task(const ncclComm& comm, const Task& task);
/// Queues the calls of one group on one communicator as one operation, so that they advance together. All calls must be
/// on one stream.
void issue(ncclComm& comm, std::vector<Task> tasks);

}  // namespace sim::runtime
