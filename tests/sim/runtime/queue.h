// Queue: streams that run as late as CUDA allows. An operation runs only when a caller waits for it, and then only what
// it depends on runs too: earlier operations of its stream, and events for which the stream waits. So a missing event,
// or a buffer that is reused too early, mostly gives a wrong result. If this order does not show it, it is not found,
// since there are no clocks between streams. The operations themselves are functions; the queue does not know what they
// do.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

namespace sim::runtime {

/// A place in a stream's queue, reached when the operation with that ticket is complete.
struct Point {
    std::shared_ptr<CUstream_st> stream;
    std::uint64_t ticket = 0;
    bool reached() const;
};

struct Operation {
    /// Runs it. Returns false if it waits for other ranks and must be called again.
    std::function<bool()> run{};
    /// Points that must be reached before it runs.
    std::vector<Point> after{};
    /// Other ranks may wait for it.
    bool communicates = false;
};

}  // namespace sim::runtime

/// A stream; CUDA's header declares the type without defining it.
struct CUstream_st {
    int device = 0;
    unsigned flags = 0;
    int priority = 0;
    bool destroyed = false;                       ///< the program destroyed it; queued operations still run
    std::deque<sim::runtime::Operation> queue{};  ///< their tickets are finished + 1, finished + 2 ...
    std::uint64_t finished = 0;
    std::uint64_t last_communication = 0;  ///< ticket of the last operation that communicates
    std::uint64_t issued() const { return finished + queue.size(); }
};

namespace sim::runtime {

inline bool Point::reached() const { return !stream || stream->finished >= ticket; }

std::shared_ptr<CUstream_st> make_stream(int device, unsigned flags, int priority);
void destroy_stream(cudaStream_t handle);
/// The stream of a handle. Throws Misuse, with `who` in the message, for the NULL stream (it waits for other streams
/// and so hides missing events) and for a handle that is not a stream.
std::shared_ptr<CUstream_st> stream_of(cudaStream_t handle, std::string_view who);
/// The NULL stream of a device, on which cudaMemcpy and cudaMemset queue their work.
std::shared_ptr<CUstream_st> null_stream(int device);
const std::vector<std::shared_ptr<CUstream_st>>& all_streams();

/// The point after everything that is queued on the stream so far.
Point end_of(const std::shared_ptr<CUstream_st>& stream);
Point enqueue(const std::shared_ptr<CUstream_st>& stream, Operation operation);
/// The same for a function that does not wait.
Point enqueue(const std::shared_ptr<CUstream_st>& stream, std::function<void()> run);

/// Waits until all points are reached, running what they depend on.
void force(const std::vector<Point>& points);
/// Runs at most `operations` of the operations that the point depends on, without waiting, and subtracts the number
/// that ran. Returns whether the point is reached.
bool attempt(const Point& point, std::uint64_t& operations);
/// The ends of all streams of a device by age, the NULL stream first; with SIM_ORDER=reverse in the reverse order.
/// Device -1: of all devices.
std::vector<Point> ends_of_device(int device);
/// Runs the queued operations for which other ranks may wait, and what these depend on. Called while this rank waits
/// for others in any way.
void advance_communication();
/// The same, but only if nothing was queued for a millisecond: for callers that cannot tell whether the program waits
/// or only looks. Returns whether that was so.
bool advance_communication_if_idle();

/// Drops everything that is queued on any stream. The dropped operations are never freed, since MPI may still use their
/// memory.
void discard_queues();

/// Used between the attempts of a caller that waits: after a millisecond without success it advances communication,
/// since other ranks may be waiting for this one.
class Patience {
public:
    Patience();
    void wait_a_moment();

private:
    std::int64_t since_;
};

}  // namespace sim::runtime
