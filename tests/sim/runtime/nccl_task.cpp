// NcclTask: calls become messages and, when these have arrived, copies and sums. Arriving data are kept aside until the
// operation is complete, so that no kernel sees them early.
#include "sim/runtime/nccl_task.h"

#include <chrono>
#include <cstring>
#include <functional>

#include "sim/runtime/memory.h"
#include "sim/runtime/mpi_world.h"
#include "sim/runtime/nccl_init.h"
#include "sim/runtime/nccl_order.h"
#include "sim/runtime/nccl_types.h"
#include "sim/runtime/process.h"
#include "sim/runtime/totals.h"

namespace sim::runtime {
namespace {

using Bytes = std::shared_ptr<std::byte[]>;
using Clock = std::chrono::steady_clock;

/// The bytes that a call reads and writes on this rank.
struct Sizes {
    std::size_t from = 0, to = 0;
};
Sizes sizes_of(const ncclComm& comm, const Task& task) {
    const std::size_t bytes = task.count * bytes_of(task.type), all = bytes * static_cast<std::size_t>(comm.size);
    switch (task.kind) {
        case Kind::send_receive:
            return task.outgoing ? Sizes{bytes, 0} : Sizes{0, bytes};
        case Kind::all_gather:
            return {bytes, all};
        case Kind::reduce_scatter:
            return {all, bytes};
        case Kind::all_reduce:
            return {bytes, bytes};
        case Kind::broadcast:
            return {comm.rank == task.peer ? bytes : 0, bytes};
    }
    return {};
}

Announcement announce(const Task& task) {
    Announcement announcement;
    announcement.kind = static_cast<std::uint32_t>(task.kind);
    announcement.count = task.count * (task.kind == Kind::send_receive ? bytes_of(task.type) : 1);
    if (task.kind == Kind::send_receive) return announcement;
    announcement.type = static_cast<std::uint32_t>(task.type);
    if (task.kind == Kind::all_reduce || task.kind == Kind::reduce_scatter)
        announcement.reduction = static_cast<std::uint32_t>(task.reduction);
    if (task.kind == Kind::broadcast) announcement.root = task.peer;
    return announcement;
}

bool overlap(const std::byte* a, std::size_t a_bytes, const std::byte* b, std::size_t b_bytes) {
    return a_bytes && b_bytes && a < b + b_bytes && b < a + a_bytes;
}

/// Whether a call is in place as NCCL defines it: all_reduce and broadcast use one buffer; otherwise a rank's part is
/// at its place in the whole.
bool in_place(const ncclComm& comm, const Task& task) {
    const std::size_t offset = static_cast<std::size_t>(comm.rank) * task.count * bytes_of(task.type);
    if (task.kind == Kind::all_gather) return task.from == task.to + offset;
    if (task.kind == Kind::reduce_scatter) return task.to == task.from + offset;
    return task.from == task.to;
}

/// Throws Misuse if a call of a group reads or writes memory that another call of the group writes.
void check_overlaps(const ncclComm& comm, const std::vector<Task>& tasks) {
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        const Sizes own = sizes_of(comm, tasks[i]);
        if (overlap(tasks[i].from, own.from, tasks[i].to, own.to) && !in_place(comm, tasks[i]))
            misuse(tasks[i].call, ": the buffers overlap, but not in place as NCCL defines it");
        for (std::size_t j = 0; j < tasks.size(); ++j) {
            const Sizes other = sizes_of(comm, tasks[j]);
            if (i != j && (overlap(tasks[i].to, own.to, tasks[j].from, other.from) ||
                           overlap(tasks[i].to, own.to, tasks[j].to, other.to)))
                misuse(tasks[i].call, ": it writes what another call of its group reads or writes (", tasks[j].call,
                       ")");
        }
    }
}

/// An operation from its queueing to its end.
struct Running {
    ncclComm* comm = nullptr;
    std::vector<Task> tasks;
    std::uint64_t number = 0;
    Exchange exchange;
    std::vector<std::function<void()>> finish;  ///< called when everything has arrived
    bool started = false, waited = false;
    Clock::time_point waiting_since{};
};

void wrote(const ncclComm& comm, std::byte* to, std::size_t bytes) {
    if (bytes) global_memory(comm.device).wrote(to, bytes);
}

/// Posts the messages of a collective: every rank's part to every rank, or the root's whole to the others. Returns the
/// buffers of arriving data by rank; this rank's own entry stays empty.
std::vector<Bytes> post_collective(Running& running, const Task& task) {
    const ncclComm& comm = *running.comm;
    const std::size_t part = task.count * bytes_of(task.type);
    std::vector<Bytes> arriving(static_cast<std::size_t>(comm.size));
    const bool rooted = task.kind == Kind::broadcast;
    for (int peer = 0; peer < comm.size; ++peer) {
        if (peer == comm.rank) continue;
        const std::byte* from =
            task.kind == Kind::reduce_scatter ? task.from + static_cast<std::size_t>(peer) * part : task.from;
        if (!rooted || comm.rank == task.peer) running.exchange.send(peer, from, part, announce(task));
        if (rooted && peer != task.peer) continue;
        auto& bytes = arriving[static_cast<std::size_t>(peer)] = std::make_shared_for_overwrite<std::byte[]>(part);
        running.exchange.receive(peer, bytes.get(), part, announce(task));
    }
    return arriving;
}

void finish_collective(const ncclComm& comm, const Task& task, const std::vector<Bytes>& arrived) {
    const std::size_t part = task.count * bytes_of(task.type), own = static_cast<std::size_t>(comm.rank);
    if (task.kind == Kind::all_gather) {
        for (std::size_t rank = 0; rank < arrived.size(); ++rank)
            std::memmove(task.to + rank * part, arrived[rank] ? arrived[rank].get() : task.from, part);
    } else if (task.kind == Kind::broadcast) {
        std::memmove(task.to, comm.rank == task.peer ? task.from : arrived[static_cast<std::size_t>(task.peer)].get(),
                     part);
    } else {
        std::vector<const std::byte*> parts;
        for (std::size_t rank = 0; rank < arrived.size(); ++rank)
            parts.push_back(arrived[rank]                       ? arrived[rank].get()
                            : task.kind == Kind::reduce_scatter ? task.from + own * part
                                                                : task.from);
        reduce(task.to, parts, task.count, task.type, task.reduction);
    }
    wrote(comm, task.to, sizes_of(comm, task).to);
}

void post_message(Running& running, const Task& task) {
    const std::size_t bytes = task.count * bytes_of(task.type);
    if (task.outgoing) return running.exchange.send(task.peer, task.from, bytes, announce(task));
    const Bytes arriving = std::make_shared_for_overwrite<std::byte[]>(bytes);
    running.exchange.receive(task.peer, arriving.get(), bytes, announce(task));
    running.finish.push_back([comm = running.comm, task, bytes, arriving] {
        std::memcpy(task.to, arriving.get(), bytes);
        wrote(*comm, task.to, bytes);
    });
}

void start(Running& running) {
    for (const Task& task : running.tasks) {
        if (const std::size_t read = sizes_of(*running.comm, task).from)
            global_memory(running.comm->device).require_written(task.from, read, task.call);
        if (task.kind == Kind::send_receive) post_message(running, task);
        else
            running.finish.push_back([comm = running.comm, task, arriving = post_collective(running, task)] {
                finish_collective(*comm, task, arriving);
            });
    }
    running.started = true;
}

/// Misuse when the operation has waited too long: there is a deadlock, or a rank is lost.
void check_patience(Running& running) {
    if (!running.waited) running.waiting_since = Clock::now();
    running.waited = true;
    if (Clock::now() - running.waiting_since < std::chrono::duration<double>(settings().nccl_timeout)) return;
    misuse("NCCL: deadlock? ", describe(*running.comm), " has waited ", settings().nccl_timeout,
           " s (SIM_NCCL_TIMEOUT) in its operation ", running.number, ", ", running.tasks.front().call,
           running.tasks.size() > 1 ? " in a group of " + std::to_string(running.tasks.size()) : "", ": ",
           running.exchange.waits_for());
}

/// SIM_NCCL_FAULT: acts like a network card that dies. Nothing arrives any more, streams wait for ever for the
/// operation, and only callers of ncclCommGetAsyncError learn of it.
bool is_lost(ncclComm& comm) {
    const Settings& wanted = settings();
    if (comm.failed != ncclSuccess) return true;
    if (comm.world_ranks[static_cast<std::size_t>(comm.rank)] != wanted.nccl_fault_rank ||
        totals().exchanges < wanted.nccl_fault_after)
        return false;
    comm.failed = ncclRemoteError;
    nccl_last_error() = "SIM_NCCL_FAULT has broken the connection";
    return true;
}

bool run(Running& running) {
    if (!mpi_is_usable() || is_lost(*running.comm)) return false;
    if (!running.started) start(running);
    if (!running.exchange.advance()) return check_patience(running), false;
    for (const auto& finish : running.finish) finish();
    totals().exchanges += 1;
    return true;
}

}  // namespace

std::string name_of(Kind kind) {
    constexpr const char* kNames[] = {"send/receive", "all-gather", "reduce-scatter", "all-reduce", "broadcast"};
    return kNames[static_cast<std::size_t>(kind)];
}

std::string name_of_communicator(std::uint64_t id) {
    return std::to_string(id & 0xFFFFFFFFu) + "." + std::to_string(id >> 32);
}

std::string describe(const ncclComm& comm) {
    std::ostringstream out;
    out << "communicator " << name_of_communicator(comm.id) << " (rank " << comm.rank << " of " << comm.size << ")";
    return out.str();
}

void check_task(const ncclComm& comm, const Task& task) {
    const Sizes sizes = sizes_of(comm, task);
    require_device(task.from, sizes.from, comm.device, task.call, "the send buffer");
    require_device(task.to, sizes.to, comm.device, task.call, "the receive buffer");
    if (task.stream->device != comm.device)
        misuse(task.call, ": the communicator is on device ", comm.device, ", the stream on device ",
               task.stream->device);
}

void issue(ncclComm& comm, std::vector<Task> tasks) {
    check_overlaps(comm, tasks);
    const auto stream = tasks.front().stream;
    for (const Task& task : tasks)
        if (task.stream != stream)
            misuse(task.call, ": several streams in one group on one communicator are not simulated");
    note_order(comm, tasks);
    auto running = std::make_shared<Running>(Running{.comm = &comm,
                                                     .tasks = std::move(tasks),
                                                     .number = comm.issued++,
                                                     .exchange = Exchange(comm.messages, comm.counts),
                                                     .finish = {}});
    comm.last = enqueue(
        stream, Operation{.run = [running] { return run(*running); }, .after = {comm.last}, .communicates = true});
}

}  // namespace sim::runtime
