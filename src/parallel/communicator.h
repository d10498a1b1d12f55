// Communicator: moves device tensors among the ranks of one mesh axis. There are three implementations: mpi, nccl and
// plan. Only parallel/ordered_communicator.cpp adds floating-point numbers, in rank order; the transports only move
// bytes. So the same mesh gives the same bits on every transport. Small host data (strings, counts) goes through
// parallel/host_group.h.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "parallel/host_group.h"
#include "parallel/mesh.h"

namespace longlora::parallel {

/// What this rank sent to other ranks. Its own part stays in place and is not counted.
struct Traffic {
    std::int64_t bytes = 0, messages = 0;
    Traffic& operator+=(const Traffic& other) { return bytes += other.bytes, messages += other.messages, *this; }
    Traffic& operator-=(const Traffic& other) { return bytes -= other.bytes, messages -= other.messages, *this; }
    bool operator==(const Traffic&) const = default;
};
/// Traffic by the unit of the model (embedding, a layer, the head) that was current when the call was made
/// (Recorder::unit).
using TrafficByUnit = std::map<int, Traffic>;

/// A communication that has started. finish(stream) makes `stream` wait for it; over MPI, finish() returns when it is
/// complete. The caller may read, reuse or release the tensors only after finish(), and release them only if `stream`
/// is the compute stream (ArenaTensor in kernels/arena.h says why). A Request must be finished: dropping an
/// unfinished one is a mistake of the program (ensure).
class Request {
public:
    Request() = default;
    explicit Request(std::function<void(Stream)> finish) : finish_(std::move(finish)) {}
    Request(Request&& other) noexcept : finish_(std::exchange(other.finish_, nullptr)) {}
    Request& operator=(Request&& other) noexcept;
    ~Request();
    void finish(Stream stream = Device::compute_stream());
    bool pending() const { return static_cast<bool>(finish_); }

private:
    std::function<void(Stream)> finish_;
};

struct Send {
    int peer;
    ConstTensor data;
};
struct Receive {
    int peer;
    Tensor data;
};

class Communicator {
public:
    virtual ~Communicator() = default;
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;
    int rank() const { return rank_; }
    int size() const { return size_; }
    Traffic traffic() const {
        Traffic sum;
        for (const auto& [unit, sent] : traffic_) sum += sent;
        return sum;
    }
    const TrafficByUnit& traffic_by_unit() const { return traffic_; }
    /// Counts what was sent since `before` so many times more.
    void repeat_traffic_since(const TrafficByUnit& before, std::int64_t times);

    /// The following holds for all calls. A call starts after the work queued on `stream` and returns at once.
    /// Tensors are contiguous device tensors. All ranks start the calls other than exchange in the same order and
    /// finish them in the same order: a long reduce_scatter, all_reduce or broadcast exchanges its later messages
    /// inside finish(). With one rank no call does anything, except that reduce_scatter copies unless it works in
    /// place.
    ///
    /// all_gather: `whole` has n elements of any type. The elements shard_of(n, r, size) of rank r come to every
    /// rank; each rank's own elements are in their place before the call.
    virtual Request all_gather(Tensor whole, Stream stream) = 0;
    /// shard (float32, shard_of(n, rank, size).count elements) = the sum over ranks, in rank order, of this part of
    /// their `whole` (float32, n elements). `shard` may be this rank's own part of `whole`.
    virtual Request reduce_scatter(Tensor shard, ConstTensor whole, Stream stream) = 0;
    /// x (float32 or float64) = the sum over ranks, in rank order; every rank gets the same bits.
    virtual Request all_reduce(Tensor x, Stream stream) = 0;
    virtual Request broadcast(Tensor x, int root, Stream stream) = 0;
    /// Starts all sends and receives at once; each peer is another rank. Between two ranks they match in the order of
    /// the lists. Not collective: only a rank that sends or receives calls it.
    virtual Request exchange(const std::vector<Send>& sends, const std::vector<Receive>& receives, Stream stream) = 0;
    /// Lets messages move. Cheap. The device calls it between parts of long work (Device::set_progress).
    virtual void progress() = 0;

protected:
    Communicator(int rank, int size) : rank_(rank), size_(size) {}
    TrafficByUnit traffic_;

private:
    int rank_, size_;
};

struct CommunicatorOptions {
    std::int64_t max_message = std::int64_t{1} << 30;  ///< bytes that one message may carry; longer ones are split
    /// Bytes of device memory (Use::exchange) that the arriving parts of one reduce_scatter may take.
    std::int64_t max_workspace = std::int64_t{64} << 20;
    std::function<void()> while_waiting{};  ///< called now and then while this rank waits for a message; may be empty
    /// The ranks are a chain of pipeline stages. Each exchanges with its neighbours only, and not in an order common
    /// to all ranks. nccl then makes two communicators, so that messages of one neighbour do not wait for messages of
    /// the other.
    bool chain = false;
};

/// Over MPI, with CPU tensors. Duplicates `comm`. Collective over `comm`. The device must outlive the communicator.
std::unique_ptr<Communicator> make_mpi_communicator(Device& device, MPI_Comm comm,
                                                    const CommunicatorOptions& options = {});
/// Over NCCL, with CUDA tensors; sums are made as over MPI and have the same bits. NCCL's id travels over `comm`.
/// Collective over `comm`. The device must outlive the communicator.
std::unique_ptr<Communicator> make_nccl_communicator(Device& device, MPI_Comm comm,
                                                     const CommunicatorOptions& options = {});
/// Throws an Error with one sentence if NCCL cannot be loaded. Ranks call it inside agree() before they make
/// communicators, so that all leave together.
void require_nccl();
/// NCCL for a CUDA device, else MPI. It is inline because the program that is linked decides whether it has NCCL
/// (parallel/nccl or parallel/no_nccl.cpp).
inline std::unique_ptr<Communicator> make_communicator(Device& device, MPI_Comm comm,
                                                       const CommunicatorOptions& options = {}) {
    return device.kind() == DeviceKind::cuda ? make_nccl_communicator(device, comm, options)
                                             : make_mpi_communicator(device, comm, options);
}
/// Moves nothing, but allocates, computes and counts what mpi would on rank `rank` of `size`.
std::unique_ptr<Communicator> make_plan_communicator(Device& device, int rank, int size,
                                                     const CommunicatorOptions& options = {});

}  // namespace longlora::parallel
