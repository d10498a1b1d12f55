// NcclTask: one call of NCCL by one rank, a communicator, and how calls become queued operations.
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
    bool outgoing = false;  ///< of send_receive
    const std::byte* from = nullptr;
    std::byte* to = nullptr;
    std::size_t count =
        0;  ///< as the call has it: of a rank's part for all_gather (sent) and reduce_scatter (received)
    ncclDataType_t type = ncclUint8;
    ncclRedOp_t reduction = ncclSum;
    int peer = -1;  ///< of send_receive; the root of broadcast
    std::shared_ptr<CUstream_st> stream{};
};

}  // namespace sim::runtime

/// A communicator; NCCL's header leaves the type to us.
struct ncclComm {
    std::uint64_t id = 0;  ///< the same on all ranks, different from all others
    int rank = 0, size = 1, device = 0;
    std::vector<int> world_ranks{};  ///< by rank
    MPI_Comm messages = MPI_COMM_NULL;
    sim::runtime::MessageCounts counts{};
    std::vector<bool> connected_to{}, connected_from{};  ///< by rank: a first message has been sent, received
    std::vector<void*> buffers{};                        ///< device memory of the connections
    std::uint64_t issued = 0;                            ///< operations (groups count once) that were queued
    sim::runtime::Point last{};                          ///< behind the last operation
    bool blocking = true;
    ncclResult_t failed = ncclSuccess;  ///< what went wrong after the calls, for ncclCommGetAsyncError
    bool in_progress = false;  ///< not blocking: the caller has not yet asked whether its last call is complete
};

namespace sim::runtime {

/// "0.3": the fourth id that rank 0 of the world made.
std::string name_of_communicator(std::uint64_t id);
/// "communicator 0.3 (rank 1 of 4)"
std::string describe(const ncclComm& comm);
/// Checks pointers of the call. Misuse.
void check_task(const ncclComm& comm, const Task& task);
/// Queues the calls of one group on one communicator as one operation: they go on together. All are on one stream.
void issue(ncclComm& comm, std::vector<Task> tasks);

}  // namespace sim::runtime
