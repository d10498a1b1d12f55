// HostGroup: all ranks of the job, for small host data (strings, counts) at the start, at step boundaries and at the
// end. Device tensors go through parallel/communicator.h. Only the main thread calls it.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace longlora::parallel {

class HostGroup {
public:
    /// Collective. Duplicates `parent`. Calls while_waiting() now and then while this rank waits for others in a
    /// function below; while_waiting() may send and receive on communicators of its own.
    explicit HostGroup(MPI_Comm parent = MPI_COMM_WORLD, std::function<void()> while_waiting = {});
    ~HostGroup();
    HostGroup(const HostGroup&) = delete;
    HostGroup& operator=(const HostGroup&) = delete;

    int rank() const { return rank_; }
    int size() const { return size_; }
    /// The number of ranks on this rank's node, and this rank's place among them.
    int node_size() const { return node_size_; }
    int node_rank() const { return node_rank_; }
    /// The lowest rank on this rank's node: the same number on all its ranks, another one on every other node.
    int node() const { return node_; }
    MPI_Comm handle() const { return comm_; }

    void barrier() const;
    /// Every rank's number, by rank.
    std::vector<int> all_gather(int mine) const;
    /// Every rank's bytes, by rank.
    std::vector<std::string> all_gather(const std::string& bytes) const;
    /// The bytes of `root`, on every rank.
    std::string broadcast(const std::string& bytes, int root = 0) const;
    /// Sends bytes_to[r] bytes to each rank r, from `out` on in the order of ranks, and receives bytes_from[r] bytes
    /// likewise. Sent and received bytes must each be below 2 GiB.
    void exchange(const char* out, const std::vector<std::int64_t>& bytes_to, char* in,
                  const std::vector<std::int64_t>& bytes_from) const;
    bool any(bool mine) const;
    bool all(bool mine) const { return !any(!mine); }

private:
    /// Waits until the non-blocking call that returned `started` and set `request` is complete.
    void finish(int started, MPI_Request& request, const char* call) const;
    void broadcast(void* data, std::int64_t bytes, int root) const;
    MPI_Comm comm_ = MPI_COMM_NULL;
    std::function<void()> while_waiting_;
    int rank_ = 0, size_ = 1, node_rank_ = 0, node_size_ = 1, node_ = 0;
};

}  // namespace longlora::parallel
