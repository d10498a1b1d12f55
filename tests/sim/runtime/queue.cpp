// Queue: the streams, and how operations run that a caller waits for.
#include "sim/runtime/queue.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>

#include "sim/runtime/memory.h"
#include "sim/runtime/process.h"

namespace sim::runtime {
namespace {

constexpr std::int64_t kPatience = 1'000'000;  // nanoseconds
constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

struct State {
    std::vector<std::shared_ptr<CUstream_st>> streams;  // by age, including destroyed ones that have work left
    std::map<int, std::shared_ptr<CUstream_st>> null_streams;
    std::int64_t last_enqueued = 0;
};
State& state() {
    static State* const all = new State;  // never destroyed: streams may still run while the process ends
    return *all;
}

void forget_finished_streams() {
    std::erase_if(state().streams, [](const auto& stream) { return stream->destroyed && stream->queue.empty(); });
}

bool advance(const Point& point, std::uint64_t& operations);
void hurry();

/// Runs the first operation of the queue. Returns false if the operation, or a point before it, has to wait, or if
/// `operations` is used up.
bool advance_first(CUstream_st& stream, std::uint64_t& operations) {
    const std::uint64_t finished = stream.finished;
    bool ready = true;
    for (const Point& before : std::vector<Point>(stream.queue.front().after))
        ready = advance(before, operations) && ready;
    if (stream.finished != finished) return true;  // hurry() has run it
    if (!ready || !operations) return false;
    bool complete = true;
    const auto leave = [&stream] {
        stream.queue.pop_front();
        stream.finished += 1;
    };
    try {
        if (stream.queue.front().run) complete = stream.queue.front().run();
    } catch (...) {
        leave();  // the caller gets the error, and the queue stays usable
        throw;
    }
    if (!complete) return false;
    leave();
    operations -= 1;
    hurry();
    return true;
}

bool advance(const Point& point, std::uint64_t& operations) {
    while (!point.reached())
        if (!advance_first(*point.stream, operations)) return false;
    return true;
}

/// SIM_STREAMS=hurried: every stream except the first one of its device runs at once what does not have to wait.
void hurry() {
    static bool hurrying = false;
    if (!settings().hurried || hurrying) return;
    hurrying = true;
    const std::shared_ptr<void> end(nullptr, [](void*) { hurrying = false; });
    std::map<int, int> seen;  // number of streams by device
    for (const auto& stream : std::vector(state().streams)) {
        if (stream->destroyed || seen[stream->device]++ == 0) continue;
        const auto ready = [](const Point& before) { return before.reached(); };
        std::uint64_t operations = kUnlimited;
        while (!stream->queue.empty() &&
               std::all_of(stream->queue.front().after.begin(), stream->queue.front().after.end(), ready))
            if (!advance_first(*stream, operations)) break;
    }
}

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

/// The legacy rules: the NULL stream and streams made without cudaStreamNonBlocking wait for each other.
void add_legacy_order(CUstream_st& stream, Operation& operation) {
    const auto null = state().null_streams.find(stream.device);
    if (null == state().null_streams.end() || stream.flags & cudaStreamNonBlocking) return;
    if (&stream != null->second.get()) {
        operation.after.push_back(end_of(null->second));
        return;
    }
    for (const auto& other : state().streams)
        if (other->device == stream.device && !(other->flags & cudaStreamNonBlocking))
            operation.after.push_back(end_of(other));
}

}  // namespace

std::shared_ptr<CUstream_st> make_stream(int device, unsigned flags, int priority) {
    forget_finished_streams();
    auto stream = std::make_shared<CUstream_st>();
    stream->device = device;
    stream->flags = flags;
    stream->priority = priority;
    state().streams.push_back(stream);
    return stream;
}

void destroy_stream(cudaStream_t handle) {
    stream_of(handle, "cudaStreamDestroy")->destroyed = true;
    forget_finished_streams();
}

std::shared_ptr<CUstream_st> stream_of(cudaStream_t handle, std::string_view who) {
    if (!handle || handle == cudaStreamLegacy || handle == cudaStreamPerThread)
        misuse(who,
               ": on the NULL stream, which waits for other streams and so hides missing events; make a stream with "
               "cudaStreamNonBlocking");
    for (const auto& stream : state().streams)
        if (stream.get() == handle && !stream->destroyed) return stream;
    misuse(who, ": ", static_cast<const void*>(handle), " is not a stream (or a destroyed one)");
}

std::shared_ptr<CUstream_st> null_stream(int device) {
    auto& stream = state().null_streams[device];
    if (!stream) stream = std::make_shared<CUstream_st>(CUstream_st{.device = device});
    return stream;
}

const std::vector<std::shared_ptr<CUstream_st>>& all_streams() { return state().streams; }

Point end_of(const std::shared_ptr<CUstream_st>& stream) { return {stream, stream->issued()}; }

Point enqueue(const std::shared_ptr<CUstream_st>& stream, Operation operation) {
    std::erase_if(operation.after, [](const Point& before) { return before.reached(); });
    if (operation.run)  // it may touch the memory that is allocated now, whenever it runs
        operation.run = [run = std::move(operation.run), device = stream->device,
                         view = global_memory(stream->device).view()] {
            global_memory(device).use(view);
            return run();
        };
    add_legacy_order(*stream, operation);
    stream->queue.push_back(std::move(operation));
    state().last_enqueued = now_ns();
    if (stream->queue.back().communicates) stream->last_communication = stream->issued();
    const Point end = end_of(stream);
    std::uint64_t operations = kUnlimited;
    if (settings().eager)
        for (const Point& point : ends_of_device(-1)) advance(point, operations);
    hurry();
    return end;
}

Point enqueue(const std::shared_ptr<CUstream_st>& stream, std::function<void()> run) {
    return enqueue(stream, Operation{.run = [run = std::move(run)] { return run(), true; }});
}

void force(const std::vector<Point>& points) {
    Patience patience;
    for (;;) {
        bool reached = true;
        std::uint64_t operations = kUnlimited;
        for (const Point& point : points) reached = advance(point, operations) && reached;
        if (reached) return;
        patience.wait_a_moment();
    }
}

bool attempt(const Point& point, std::uint64_t& operations) { return advance(point, operations); }

std::vector<Point> ends_of_device(int device) {
    std::vector<Point> ends;
    for (const auto& [of, stream] : state().null_streams)
        if (device < 0 || of == device) ends.push_back(end_of(stream));
    for (const auto& stream : state().streams)
        if (device < 0 || stream->device == device) ends.push_back(end_of(stream));
    if (settings().reversed) std::reverse(ends.begin(), ends.end());
    return ends;
}

void advance_communication() {
    std::uint64_t operations = kUnlimited;
    const auto streams = state().streams;
    for (const auto& stream : streams) advance({stream, stream->last_communication}, operations);
}

bool advance_communication_if_idle() {
    if (now_ns() - state().last_enqueued <= kPatience) return false;
    advance_communication();
    return true;
}

void discard_queues() {
    static auto* const kept = new std::vector<std::deque<Operation>>;
    for (const Point& end : ends_of_device(-1)) {
        end.stream->finished = end.ticket;
        kept->push_back(std::move(end.stream->queue));
        end.stream->queue.clear();
    }
}

Patience::Patience() : since_(now_ns()) {}

void Patience::wait_a_moment() {
    if (now_ns() - since_ > kPatience) advance_communication();
    idle_moment();
}

}  // namespace sim::runtime
