// CUDA runtime: streams and events. How queued operations run is in queue.cpp.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <unordered_map>

#include "sim/runtime/device.h"
#include "sim/runtime/mutation.h"
#include "sim/runtime/process.h"
#include "sim/runtime/queue.h"
#include "sim/runtime/totals.h"

using namespace sim::runtime;

namespace {

struct Event {
    struct Recording {
        std::chrono::steady_clock::time_point when;
    };
    unsigned flags = 0;
    int device = 0;
    Point point{};  ///< reached when the last recording has run; without a stream: never recorded
    std::shared_ptr<Recording> recording{};  ///< time of the last recording, once it has run
};

/// Handles are numbers, not addresses, and no number is used twice, so a destroyed event is never mistaken for a later
/// one.
std::unordered_map<std::uintptr_t, Event>& events() {
    // Never destroyed, since it is used while the process ends.
    static auto* const all = new std::unordered_map<std::uintptr_t, Event>;
    return *all;
}

/// The event of a handle; no handle is 0. Throws Misuse, with `who` in the message, if the handle is not an event.
Event& event_of(cudaEvent_t handle, const char* who) {
    const auto found = events().find(reinterpret_cast<std::uintptr_t>(handle));
    if (found == events().end())
        misuse(who, ": ", static_cast<const void*>(handle), " is not an event (or a destroyed one)");
    return found->second;
}

cudaError_t create_event(cudaEvent_t* event, unsigned flags) {
    if (!event || flags & ~unsigned{cudaEventBlockingSync | cudaEventDisableTiming}) return cudaErrorInvalidValue;
    static std::uintptr_t last = 0;
    events().emplace(last += 16, Event{.flags = flags, .device = current_device()});
    *event = reinterpret_cast<cudaEvent_t>(last);
    totals().events += 1;
    return cudaSuccess;
}

cudaError_t destroy_event(cudaEvent_t event) {
    if (!event) return cudaErrorInvalidResourceHandle;
    event_of(event, "cudaEventDestroy");
    events().erase(reinterpret_cast<std::uintptr_t>(event));
    totals().events -= 1;
    return cudaSuccess;
}

cudaError_t create_stream(cudaStream_t* stream, unsigned flags, int priority) {
    if (!stream || flags & ~unsigned{cudaStreamNonBlocking}) return cudaErrorInvalidValue;
    *stream = make_stream(current_device(), flags, std::min(0, std::max(kGreatestPriority, priority))).get();
    return cudaSuccess;
}

cudaError_t record(cudaEvent_t handle, cudaStream_t to, const char* who) {
    if (!handle) return cudaErrorInvalidResourceHandle;
    Event& event = event_of(handle, who);
    const auto stream = stream_of(to, who);
    if (stream->device != event.device) return cudaErrorInvalidResourceHandle;
    if (mutated("drop", who)) return cudaSuccess;
    auto recording = std::make_shared<Event::Recording>();
    event.recording = recording;
    event.point = enqueue(stream, [recording] { recording->when = std::chrono::steady_clock::now(); });
    return cudaSuccess;
}

/// A query does not wait, but the device advances by one operation. So a program that asks until the answer is yes
/// comes to an end, and a program that asks once finds nothing done.
cudaError_t query(const Point& point, const char* who) {
    if (mutated("drop", who)) return cudaSuccess;  // as if the program had asked later
    std::uint64_t operations = 1;
    if (attempt(point, operations)) return cudaSuccess;
    if (operations)
        advance_communication();  // nothing could run: it waits for other ranks, which may wait for this one
    return cudaErrorNotReady;
}

cudaError_t wait_for(const Point& point, const char* who) {
    if (!mutated("drop", who)) force({point});
    return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    return call([&] { return create_stream(stream, cudaStreamDefault, 0); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    return call([&] { return create_stream(stream, flags, 0); });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
    return call([&] { return create_stream(stream, flags, priority); });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    return call([&] { return destroy_stream(stream), cudaSuccess; });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return call(
        [&] { return wait_for({end_of(stream_of(stream, "cudaStreamSynchronize"))}, "cudaStreamSynchronize"); });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return call([&] { return query(end_of(stream_of(stream, "cudaStreamQuery")), "cudaStreamQuery"); });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    return call([&] {
        if (!event) return cudaErrorInvalidResourceHandle;
        if (flags) return cudaErrorInvalidValue;
        const Point point = event_of(event, "cudaStreamWaitEvent").point;
        if (mutated("drop", "cudaStreamWaitEvent")) return cudaSuccess;
        enqueue(stream_of(stream, "cudaStreamWaitEvent"), Operation{.run = {}, .after = {point}});
        return cudaSuccess;
    });
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned* flags) {
    return call([&] {
        return flags ? (*flags = stream_of(stream, "cudaStreamGetFlags")->flags, cudaSuccess) : cudaErrorInvalidValue;
    });
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
    return call([&] {
        return priority ? (*priority = stream_of(stream, "cudaStreamGetPriority")->priority, cudaSuccess)
                        : cudaErrorInvalidValue;
    });
}

cudaError_t cudaStreamGetDevice(cudaStream_t stream, int* device) {
    return call([&] {
        return device ? (*device = stream_of(stream, "cudaStreamGetDevice")->device, cudaSuccess)
                      : cudaErrorInvalidValue;
    });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
    return call([&] {
        if (!function) return cudaErrorInvalidValue;
        enqueue(stream_of(stream, "cudaLaunchHostFunc"), [function, data] { function(data); });
        return cudaSuccess;
    });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    return call([&] { return create_event(event, cudaEventDefault); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    return call([&] { return create_event(event, flags); });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    return call([&] { return destroy_event(event); });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return call([&] { return record(event, stream, "cudaEventRecord"); });
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    return call([&] { return flags ? cudaErrorInvalidValue : record(event, stream, "cudaEventRecordWithFlags"); });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    return call([&] {
        return event ? query(Point(event_of(event, "cudaEventQuery").point), "cudaEventQuery")
                     : cudaErrorInvalidResourceHandle;
    });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return call([&] {
        return event ? wait_for(Point(event_of(event, "cudaEventSynchronize").point), "cudaEventSynchronize")
                     : cudaErrorInvalidResourceHandle;
    });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    return call([&] {
        if (!milliseconds) return cudaErrorInvalidValue;
        if (!start || !end) return cudaErrorInvalidResourceHandle;
        const Event &first = event_of(start, "cudaEventElapsedTime"), &last = event_of(end, "cudaEventElapsedTime");
        for (const Event* event : {&first, &last})
            if (event->flags & cudaEventDisableTiming || !event->recording) return cudaErrorInvalidResourceHandle;
        if (!first.point.reached() || !last.point.reached()) return cudaErrorNotReady;
        *milliseconds = std::chrono::duration<float, std::milli>(last.recording->when - first.recording->when).count();
        return cudaSuccess;
    });
}

}  // extern "C"
