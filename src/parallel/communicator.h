// Communicator: bulk device data among the ranks of one mesh axis. Implementations: mpi, nccl, plan.
// Floating-point sums are ours: the transport only moves data, sums are made in rank order, so same mesh = same bits
// (design 5).
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

/// What this rank sent (its own part stays where it is and is not counted).
struct Traffic {
    std::int64_t bytes = 0, messages = 0;
    Traffic& operator+=(const Traffic& other) { return bytes += other.bytes, messages += other.messages, *this; }
    Traffic& operator-=(const Traffic& other) { return bytes -= other.bytes, messages -= other.messages, *this; }
    bool operator==(const Traffic&) const = default;
};
/// By unit of the model for which it was sent (Recorder::unit when the call was made).
using TrafficByUnit = std::map<int, Traffic>;

/// A communication under way. Its tensors may be read, reused or released only after finish(), and released only if
/// `stream` is the compute stream (ArenaTensor). finish() makes `stream` wait for it (mpi: completes it). A Request
/// must be finished; dropping one unfinished is a bug (ensure).
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

    /// All calls start after the work queued on `stream` and return at once. Tensors are contiguous device tensors.
    /// All ranks start the calls but exchange in the same order, and finish them in the same order: a long
    /// reduce_scatter, all_reduce or broadcast goes on inside finish(). With one rank there is nothing to do
    /// (reduce_scatter copies, unless in place). whole (n elements, any type): rank r's elements shard_of(n, r, size)
    /// come to every rank; this rank's own are in their place already.
    virtual Request all_gather(Tensor whole, Stream stream) = 0;
    /// shard (float32, shard_of(n, rank, size).count) = sum over ranks, in rank order, of their `whole` (float32, n).
    /// `shard` may be whole's own part.
    virtual Request reduce_scatter(Tensor shard, ConstTensor whole, Stream stream) = 0;
    /// x (float32 or float64) = sum over ranks in rank order; the same bits on every rank.
    virtual Request all_reduce(Tensor x, Stream stream) = 0;
    virtual Request broadcast(Tensor x, int root, Stream stream) = 0;
    /// All sends and receives at once, each with another rank; between two ranks they match in order. Not collective:
    /// only those named take part.
    virtual Request exchange(const std::vector<Send>& sends, const std::vector<Receive>& receives, Stream stream) = 0;
    /// Lets messages move; cheap. Bound to Device::set_progress.
    virtual void progress() = 0;

protected:
    Communicator(int rank, int size) : rank_(rank), size_(size) {}
    TrafficByUnit traffic_;

private:
    int rank_, size_;
};

struct CommunicatorOptions {
    std::int64_t max_message = std::int64_t{1} << 30;  ///< bytes that a single message may carry; longer ones are split
    std::int64_t max_workspace =
        std::int64_t{64}
        << 20;  ///< bytes of device memory (Use::exchange) that a reduce_scatter's arriving parts may take
    std::function<void()> while_waiting{};  ///< called now and then while a message is waited for; may be empty
    /// Ranks are a chain of stages that exchange with their neighbours, not in one order on all: nccl has two
    /// communicators of its own then, so that what comes from the one side and what goes to the other do not wait for
    /// each other.
    bool chain = false;
};

/// Over MPI with CPU tensors. `comm` is duplicated. Collective over comm. The device must outlive the communicator.
std::unique_ptr<Communicator> make_mpi_communicator(Device& device, MPI_Comm comm,
                                                    const CommunicatorOptions& options = {});
/// Over NCCL with CUDA tensors and the sums of the others: same bits. NCCL's id travels over `comm`. Collective over
/// comm. The device must outlive the communicator.
std::unique_ptr<Communicator> make_nccl_communicator(Device& device, MPI_Comm comm,
                                                     const CommunicatorOptions& options = {});
/// Throws one sentence where NCCL cannot be loaded; ranks that agree on it before they make communicators leave
/// together.
void require_nccl();
/// As the device wants it. Inline, since whether there is NCCL is decided where the program is linked.
inline std::unique_ptr<Communicator> make_communicator(Device& device, MPI_Comm comm,
                                                       const CommunicatorOptions& options = {}) {
    return device.kind() == DeviceKind::cuda ? make_nccl_communicator(device, comm, options)
                                             : make_mpi_communicator(device, comm, options);
}
/// Moves nothing; allocates, computes and counts the same as mpi would on rank `rank` of `size`.
std::unique_ptr<Communicator> make_plan_communicator(Device& device, int rank, int size,
                                                     const CommunicatorOptions& options = {});

}  // namespace longlora::parallel
