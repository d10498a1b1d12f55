// NcclOrder: a rank's log of operations, and its comparison with the logs of other ranks.
#include "sim/runtime/nccl_order.h"

#include <algorithm>
#include <set>

#include "sim/runtime/process.h"

namespace sim::runtime {
namespace {

/// For each operation: communicator, number of peers, their ranks in the world.
std::vector<std::uint64_t>& log() {
    static auto* const entries = new std::vector<std::uint64_t>;
    return *entries;
}

/// The ranks of the communicator that the operation both sends to and receives from.
std::set<int> meets(const ncclComm& comm, const std::vector<Task>& tasks) {
    std::set<int> to, from, both;
    for (const Task& task : tasks) {
        if (task.kind == Kind::send_receive) (task.outgoing ? to : from).insert(task.peer);
        else
            for (int peer = 0; peer < comm.size; ++peer) both.insert(peer);
    }
    std::set_intersection(to.begin(), to.end(), from.begin(), from.end(), std::inserter(both, both.end()));
    both.erase(comm.rank);
    return both;
}

/// The communicators of the operations in which the log's rank meets `peer`, in order.
std::vector<std::uint64_t> order_with(const std::vector<std::uint64_t>& entries, int peer) {
    std::vector<std::uint64_t> order;
    for (std::size_t at = 0; at < entries.size(); at += 2 + entries[at + 1]) {
        const auto begin = entries.begin() + static_cast<std::ptrdiff_t>(at) + 2,
                   end = begin + static_cast<std::ptrdiff_t>(entries[at + 1]);
        if (std::find(begin, end, static_cast<std::uint64_t>(peer)) != end) order.push_back(entries[at]);
    }
    return order;
}

void compare(const std::vector<std::uint64_t>& mine, int me, const std::vector<std::uint64_t>& theirs, int other) {
    const auto a = order_with(mine, other), b = order_with(theirs, me);
    const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
    if (x == a.end() && y == b.end()) return;
    const auto name = [](const auto& at, const auto& order) {
        return at == order.end() ? "ended" : "issued an operation of communicator " + name_of_communicator(*at);
    };
    misuse(
        "NCCL: ranks that share communicators issue their operations in different orders, which may be a deadlock on "
        "real devices: after ",
        x - a.begin(), " operations in common, rank ", me, " of the world ", name(x, a), ", rank ", other, ' ',
        name(y, b));
}

}  // namespace

void note_order(const ncclComm& comm, const std::vector<Task>& tasks) {
    const std::set<int> peers = meets(comm, tasks);
    if (peers.empty()) return;
    log().push_back(comm.id);
    log().push_back(peers.size());
    for (const int peer : peers)
        log().push_back(static_cast<std::uint64_t>(comm.world_ranks[static_cast<std::size_t>(peer)]));
}

void compare_orders(MPI_Comm all_ranks, bool aborted) {
    if (all_ranks == MPI_COMM_NULL) return;
    int me = 0, ranks = 1, mine = aborted, any = 0;
    PMPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, all_ranks);
    if (any) return;
    PMPI_Comm_rank(all_ranks, &me);
    PMPI_Comm_size(all_ranks, &ranks);
    for (int other = 0; other < ranks; ++other) {
        std::uint64_t entries = log().size();
        PMPI_Bcast(&entries, 1, MPI_UINT64_T, other, all_ranks);
        if (!entries) continue;
        std::vector<std::uint64_t> theirs = other == me ? log() : std::vector<std::uint64_t>(entries);
        PMPI_Bcast(theirs.data(), static_cast<int>(entries), MPI_UINT64_T, other, all_ranks);
        if (other < me) compare(log(), me, theirs, other);
    }
}

}  // namespace sim::runtime
