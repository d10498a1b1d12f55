// NcclConnect: each side sends an empty message. It is synchronous, so both sides know of each other when it is
// complete.
#include "sim/runtime/nccl_connect.h"

#include <algorithm>
#include <chrono>

#include "sim/runtime/memory.h"
#include "sim/runtime/mpi_world.h"
#include "sim/runtime/process.h"

namespace sim::runtime {
namespace {

constexpr int kFromSender = 30001, kFromReceiver = 30002;  // tags above those of nccl_exchange.cpp
/// Of one direction; the real library's buffers have up to 10 MiB for each channel.
constexpr std::size_t kBufferBytes = std::size_t{4} << 20;

struct Direction {
    int peer;
    bool outgoing;
    bool operator==(const Direction&) const = default;
};

std::vector<Direction> new_directions(const ncclComm& comm, const std::vector<Task>& tasks) {
    std::vector<Direction> found;
    const auto add = [&](int peer, bool outgoing) {
        const auto& known = outgoing ? comm.connected_to : comm.connected_from;
        if (peer != comm.rank && !known[static_cast<std::size_t>(peer)] &&
            std::find(found.begin(), found.end(), Direction{peer, outgoing}) == found.end())
            found.push_back({peer, outgoing});
    };
    for (const Task& task : tasks) {
        if (task.kind == Kind::send_receive) add(task.peer, task.outgoing);
        else
            for (int peer = 0; peer < comm.size; ++peer) add(peer, true), add(peer, false);
    }
    return found;
}

void wait_for_hosts(const ncclComm& comm, const std::vector<Direction>& directions) {
    std::vector<MPI_Request> requests;
    for (const auto& [peer, outgoing] : directions) {
        requests.resize(requests.size() + 2, MPI_REQUEST_NULL);
        PMPI_Issend(nullptr, 0, MPI_BYTE, peer, outgoing ? kFromSender : kFromReceiver, comm.messages,
                    &requests.end()[-2]);
        PMPI_Irecv(nullptr, 0, MPI_BYTE, peer, outgoing ? kFromReceiver : kFromSender, comm.messages,
                   &requests.end()[-1]);
    }
    const auto begin = std::chrono::steady_clock::now();
    Patience patience;
    for (int done = 0;;) {
        PMPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE);
        if (done) return;
        if (std::chrono::steady_clock::now() - begin > std::chrono::duration<double>(settings().nccl_timeout))
            misuse("NCCL: deadlock? ", describe(comm), " has waited ", settings().nccl_timeout,
                   " s (SIM_NCCL_TIMEOUT) on the host to connect with rank ", directions.front().peer,
                   ", which has not come to its first call with this rank");
        patience.wait_a_moment();
    }
}

}  // namespace

bool connect(ncclComm& comm, const std::vector<Task>& tasks) {
    const std::vector<Direction> directions = new_directions(comm, tasks);
    if (directions.empty()) return true;
    const std::size_t wanted = comm.buffers.size() + directions.size();
    if (!mpi_is_usable())
        misuse(tasks.front().call, ": ", describe(comm),
               " has to connect ranks, and MPI is finalised or this is not the main thread");
    while (comm.buffers.size() < wanted) {
        void* const buffer = allocate_device(comm.device, kBufferBytes);
        if (!buffer) return false;
        comm.buffers.push_back(buffer);
    }
    wait_for_hosts(comm, directions);
    for (const auto& [peer, outgoing] : directions)
        (outgoing ? comm.connected_to : comm.connected_from)[static_cast<std::size_t>(peer)] = true;
    return true;
}

void release_buffers(ncclComm& comm) {
    for (void* buffer : comm.buffers) free_device(buffer);
    comm.buffers.clear();
}

}  // namespace sim::runtime
