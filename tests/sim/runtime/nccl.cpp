// NCCL: communicators and their calls, grouped or one by one, which are queued on streams like kernels. The messages go
// over MPI (nccl_exchange.h).
#include <nccl.h>

#include <string>
#include <utility>
#include <vector>

#include "sim/runtime/device.h"
#include "sim/runtime/mpi_world.h"
#include "sim/runtime/nccl_connect.h"
#include "sim/runtime/nccl_init.h"
#include "sim/runtime/nccl_task.h"
#include "sim/runtime/nccl_types.h"
#include "sim/runtime/process.h"

using namespace sim::runtime;

namespace {

std::vector<ncclComm*>& communicators() {
    static auto* const all = new std::vector<ncclComm*>;
    return *all;
}

struct Group {
    int depth = 0;
    std::vector<std::pair<ncclComm*, Task>> tasks;  // in order of the calls
};
Group& group() {
    thread_local Group own;
    return own;
}

template <class Body> ncclResult_t guarded(Body&& body) {
    const std::lock_guard hold(api_lock());
    try {
        return body();
    } catch (const std::exception& error) {
        end_with(error);
    }
}

ncclResult_t refuse(const std::string& sentence) {
    nccl_last_error() = sentence;
    return ncclInvalidArgument;
}

bool is_communicator(const ncclComm* comm) {
    for (const ncclComm* known : communicators())
        if (known == comm) return true;
    return false;
}

/// The result of a call: one on a communicator that does not block is in progress until the caller has asked
/// (ncclCommGetAsyncError).
ncclResult_t progress_of(ncclComm& comm) {
    if (comm.blocking) return ncclSuccess;
    comm.in_progress = true;
    return ncclInProgress;
}

/// Queues the group's calls as one operation for each communicator.
ncclResult_t issue_group(std::vector<std::pair<ncclComm*, Task>> tasks) {
    ncclResult_t result = ncclSuccess;
    while (!tasks.empty()) {
        ncclComm* const comm = tasks.front().first;
        std::vector<Task> own;
        for (const auto& [of, task] : tasks)
            if (of == comm) own.push_back(task);
        std::erase_if(tasks, [comm](const auto& entry) { return entry.first == comm; });
        if (!connect(*comm, own))
            return nccl_last_error() = "out of device memory for the buffers of a connection", ncclUnhandledCudaError;
        issue(*comm, std::move(own));
        if (const ncclResult_t progress = progress_of(*comm); progress != ncclSuccess) result = progress;
    }
    return result;
}

/// Checks a call, and adds it to the open group or issues it alone.
ncclResult_t add(ncclComm_t comm, Task task, cudaStream_t stream) {
    return guarded([&] {
        if (!is_communicator(comm)) return refuse(std::string(task.call) + ": no communicator");
        if (!bytes_of(task.type)) return refuse(std::string(task.call) + ": unknown type");
        const bool has_peer = task.kind == Kind::send_receive || task.kind == Kind::broadcast;
        if (has_peer && (task.peer < 0 || task.peer >= comm->size))
            return refuse(std::string(task.call) + ": no such rank");
        const bool reduces = task.kind == Kind::all_reduce || task.kind == Kind::reduce_scatter;
        if (reduces && !can_reduce(task.type, task.reduction))
            misuse(task.call, ": ", name_of(task.reduction), " of ", name_of(task.type), " is not simulated");
        if (comm->in_progress)
            misuse(
                task.call, ": ", describe(*comm),
                " is not blocking and an earlier call may be in progress; ask ncclCommGetAsyncError until it is not");
        task.stream = stream_of(stream, task.call);
        check_task(*comm, task);
        // Like the real library, drops empty collectives.
        if (!task.count && task.kind != Kind::send_receive) return ncclSuccess;
        if (task.kind == Kind::send_receive && !group().depth && task.peer == comm->rank)
            return refuse(std::string(task.call) + ": a message of a rank to itself must be in a group");
        group().tasks.emplace_back(comm, std::move(task));
        return group().depth ? ncclSuccess : issue_group(std::exchange(group().tasks, {}));
    });
}

const std::byte* bytes(const void* data) { return static_cast<const std::byte*>(data); }
std::byte* bytes(void* data) { return static_cast<std::byte*>(data); }

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
    return version ? (*version = NCCL_VERSION_CODE, ncclSuccess) : ncclInvalidArgument;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    return guarded([&] { return id ? (*id = make_unique_id(), ncclSuccess) : ncclInvalidArgument; });
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
    return guarded([&] {
        if (usable() != cudaSuccess) return ncclUnhandledCudaError;
        if (group().depth) misuse("ncclCommInitRank: in a group (several devices of one process) is not simulated");
        if (config && (config->size != sizeof *config || config->magic != 0xcafebeef))
            return refuse("ncclCommInitRankConfig: the configuration was not initialised with NCCL_CONFIG_INITIALIZER");
        const ncclResult_t result = join(comm, size, id, rank, current_device());
        if (result != ncclSuccess) return result;
        communicators().push_back(*comm);
        (*comm)->blocking = !config || config->blocking != 0;
        return progress_of(**comm);
    });
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
    return ncclCommInitRankConfig(comm, size, id, rank, nullptr);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    return guarded([&] {
        if (!is_communicator(comm)) return ncclInvalidArgument;
        force({comm->last});
        return progress_of(*comm);
    });
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    return guarded([&] {
        if (!comm) return ncclSuccess;
        if (!is_communicator(comm)) return ncclInvalidArgument;
        if (!comm->last.reached() && !mpi_is_usable())
            misuse("ncclCommDestroy: ", describe(*comm),
                   " has operations left, and MPI is finalised or this is not the main thread");
        force({comm->last});
        std::erase(communicators(), comm);
        leave(comm);
        return ncclSuccess;
    });
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    return guarded([&] {
        if (!comm) return ncclSuccess;
        if (!is_communicator(comm)) return ncclInvalidArgument;
        const bool unfinished = !comm->last.reached();
        if (unfinished) discard_queues();  // later operations would compute from data that never arrived
        if (unfinished) note_abort();
        std::erase(communicators(), comm);
        if (!unfinished) leave(comm);  // otherwise MPI may still write to it
        return ncclSuccess;
    });
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
    return guarded([&] {
        if (!is_communicator(comm) || !state) return ncclInvalidArgument;
        *state = comm->failed != ncclSuccess               ? comm->failed
                 : std::exchange(comm->in_progress, false) ? ncclInProgress
                                                           : ncclSuccess;
        return ncclSuccess;
    });
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
    return guarded(
        [&] { return is_communicator(comm) && count ? (*count = comm->size, ncclSuccess) : ncclInvalidArgument; });
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
    return guarded(
        [&] { return is_communicator(comm) && rank ? (*rank = comm->rank, ncclSuccess) : ncclInvalidArgument; });
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
    return guarded(
        [&] { return is_communicator(comm) && device ? (*device = comm->device, ncclSuccess) : ncclInvalidArgument; });
}

ncclResult_t ncclGroupStart() { return group().depth += 1, ncclSuccess; }

ncclResult_t ncclGroupEnd() {
    return guarded([&] {
        if (!group().depth) return ncclInvalidUsage;
        group().depth -= 1;
        return group().depth ? ncclSuccess : issue_group(std::exchange(group().tasks, {}));
    });
}

ncclResult_t ncclSend(const void* from, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return add(comm,
               {.call = "ncclSend",
                .kind = Kind::send_receive,
                .outgoing = true,
                .from = bytes(from),
                .count = count,
                .type = type,
                .peer = peer},
               stream);
}

ncclResult_t ncclRecv(void* to, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return add(
        comm,
        {.call = "ncclRecv", .kind = Kind::send_receive, .to = bytes(to), .count = count, .type = type, .peer = peer},
        stream);
}

ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
    return add(comm,
               {.call = "ncclAllGather",
                .kind = Kind::all_gather,
                .from = bytes(from),
                .to = bytes(to),
                .count = count,
                .type = type},
               stream);
}

ncclResult_t ncclReduceScatter(const void* from, void* to, std::size_t count, ncclDataType_t type,
                               ncclRedOp_t reduction, ncclComm_t comm, cudaStream_t stream) {
    return add(comm,
               {.call = "ncclReduceScatter",
                .kind = Kind::reduce_scatter,
                .from = bytes(from),
                .to = bytes(to),
                .count = count,
                .type = type,
                .reduction = reduction},
               stream);
}

ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t reduction,
                           ncclComm_t comm, cudaStream_t stream) {
    return add(comm,
               {.call = "ncclAllReduce",
                .kind = Kind::all_reduce,
                .from = bytes(from),
                .to = bytes(to),
                .count = count,
                .type = type,
                .reduction = reduction},
               stream);
}

ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    return add(comm,
               {.call = "ncclBroadcast",
                .kind = Kind::broadcast,
                .from = bytes(from),
                .to = bytes(to),
                .count = count,
                .type = type,
                .peer = root},
               stream);
}

ncclResult_t ncclBcast(void* data, std::size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                       cudaStream_t stream) {
    return ncclBroadcast(data, data, count, type, root, comm, stream);
}

const char* ncclGetLastError(ncclComm_t) { return nccl_last_error().c_str(); }

const char* ncclGetErrorString(ncclResult_t result) {
    constexpr const char* kSentences[] = {"no error",
                                          "unhandled cuda error",
                                          "unhandled system error",
                                          "internal error",
                                          "invalid argument",
                                          "invalid usage",
                                          "remote process exited or there was a network error",
                                          "NCCL operation in progress"};
    return result >= 0 && result < ncclNumResults ? kSentences[result] : "unknown result code";
}

}  // extern "C"
