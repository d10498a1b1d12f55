// Queue: streams that run as late as CUDA allows. An operation is queued and runs only when somebody waits for it, and
// then nothing else runs than what it depends on: earlier operations of its stream, events that the stream waits for.
// So a missing event or a buffer reused too early mostly gives a wrong answer: where this order shows it, there are no
// clocks between streams. The operations themselves are functions; what they do is not known here.
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
    /// Runs it. false: it waits for other ranks and wants to be called again.
    std::function<bool()> run{};
    /// Must be reached before.
    std::vector<Point> after{};
    /// Other ranks may wait for it.
    bool communicates = false;
};

}  // namespace sim::runtime

/// A stream; CUDA's header leaves the type to us.
struct CUstream_st {
    int device = 0;
    unsigned flags = 0;
    int priority = 0;
    bool destroyed = false;                       ///< by the program; what was queued still runs
    std::deque<sim::runtime::Operation> queue{};  ///< tickets finished + 1 ...
    std::uint64_t finished = 0;
    std::uint64_t last_communication = 0;  ///< ticket of the last operation that communicates
    std::uint64_t issued() const { return finished + queue.size(); }
};

namespace sim::runtime {

inline bool Point::reached() const { return !stream || stream->finished >= ticket; }

std::shared_ptr<CUstream_st> make_stream(int device, unsigned flags, int priority);
void destroy_stream(cudaStream_t handle);
/// The stream of a handle. Misuse, naming `who`, for the NULL stream (it waits for others and so hides missing events)
/// and for what is no stream.
std::shared_ptr<CUstream_st> stream_of(cudaStream_t handle, std::string_view who);
/// Where cudaMemcpy and cudaMemset queue.
std::shared_ptr<CUstream_st> null_stream(int device);
const std::vector<std::shared_ptr<CUstream_st>>& all_streams();

/// Behind everything queued on the stream so far.
Point end_of(const std::shared_ptr<CUstream_st>& stream);
Point enqueue(const std::shared_ptr<CUstream_st>& stream, Operation operation);
/// Function that does not wait.
Point enqueue(const std::shared_ptr<CUstream_st>& stream, std::function<void()> run);

/// Waits until all points are reached, running what they depend on.
void force(const std::vector<Point>& points);
/// Runs at most `operations` of what the point depends on, without waiting, and takes those that ran off. Whether it is
/// reached.
bool attempt(const Point& point, std::uint64_t& operations);
/// All streams of a device by age, the NULL stream first, or with SIM_ORDER=reverse the other way round; device -1: of
/// all devices.
std::vector<Point> ends_of_device(int device);
/// Lets those queued operations run for which other ranks may wait, and what they depend on. Called while this rank
/// waits for others in any way.
void advance_communication();
/// The same, if nothing was queued for a millisecond: for those who cannot tell whether the program waits or just
/// looks. Whether it was so.
bool advance_communication_if_idle();

/// Forgets all that is queued on any stream. What MPI may still hold of it is never freed.
void discard_queues();

/// Between attempts of somebody who waits: after a millisecond without success other ranks may be waiting for us.
class Patience {
public:
    Patience();
    void wait_a_moment();

private:
    std::int64_t since_;
};

}  // namespace sim::runtime
