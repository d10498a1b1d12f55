// CUDA runtime: copies and memsets. Pinned host memory is read and written when the copy runs, pageable memory at the
// call, as on the real device (CUDA runtime API, "API synchronization behavior"). Bytes that a copy takes from the
// device must have been written, and the target must not overlap the source.
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "sim/runtime/device.h"
#include "sim/runtime/memory.h"
#include "sim/runtime/mutation.h"
#include "sim/runtime/process.h"
#include "sim/runtime/queue.h"
#include "sim/runtime/totals.h"

namespace sim::runtime {
namespace {

struct Side {
    std::byte* begin = nullptr;
    std::size_t pitch = 0;
};
/// Rows of `width` bytes; one row for a plain copy.
struct Copy {
    const char* who = nullptr;
    Side to, from;
    std::size_t width = 0, height = 0;
    Place to_place = Place::pageable, from_place = Place::pageable;
    int device = 0;
    bool to_device() const { return to_place == Place::device; }
    bool from_device() const { return from_place == Place::device; }
};

std::size_t extent(std::size_t pitch, std::size_t width, std::size_t height) {
    return height ? (height - 1) * pitch + width : 0;
}

/// All checks that are possible at the call; fills in the places.
void check(Copy& copy, cudaMemcpyKind kind) {
    const std::size_t to_bytes = extent(copy.to.pitch, copy.width, copy.height),
                      from_bytes = extent(copy.from.pitch, copy.width, copy.height);
    copy.to_place = place_of(copy.to.begin, to_bytes, copy.who);
    copy.from_place = place_of(copy.from.begin, from_bytes, copy.who);
    const bool want_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice,
               want_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind != cudaMemcpyDefault && want_to != copy.to_device())
        misuse(copy.who, ": the target ", static_cast<void*>(copy.to.begin),
               want_to ? " is not device memory" : " is device memory", ", against the direction given");
    if (kind != cudaMemcpyDefault && want_from != copy.from_device())
        misuse(copy.who, ": the source ", static_cast<void*>(copy.from.begin),
               want_from ? " is not device memory" : " is device memory", ", against the direction given");
    if (copy.to_device()) require_device(copy.to.begin, to_bytes, copy.device, copy.who, "the target");
    if (copy.from_device()) require_device(copy.from.begin, from_bytes, copy.device, copy.who, "the source");
    if (overlap({copy.to.begin, copy.to.pitch, copy.width, copy.height},
                {copy.from.begin, copy.from.pitch, copy.width, copy.height}))
        misuse(copy.who, ": the target ", static_cast<void*>(copy.to.begin), " overlaps the source ",
               static_cast<void*>(copy.from.begin), ", which is undefined");
}

void run(const Copy& copy) {
    auto& memory = global_memory(copy.device);
    for (std::size_t row = 0; row < copy.height; ++row) {
        std::byte* to = copy.to.begin + row * copy.to.pitch;
        const std::byte* from = copy.from.begin + row * copy.from.pitch;
        if (copy.from_device()) memory.require_written(from, copy.width, copy.who);
        std::memcpy(to, from, copy.width);
        if (copy.to_device()) memory.wrote(to, copy.width);
    }
    totals().copies += 1;
    auto& bytes = copy.to_device() && copy.from_device() ? totals().bytes_on_device
                  : copy.to_device()                     ? totals().bytes_to_device
                                                         : totals().bytes_to_host;
    bytes += copy.width * copy.height;
}

/// Copies the source rows now into memory of their own, and queues the copy from there.
void run_later_staged(const std::shared_ptr<CUstream_st>& stream, Copy copy) {
    auto staged = std::make_shared<std::vector<std::byte>>(copy.width * copy.height);
    for (std::size_t row = 0; row < copy.height; ++row)
        std::memcpy(staged->data() + row * copy.width, copy.from.begin + row * copy.from.pitch, copy.width);
    copy.from = {staged->data(), copy.width};
    enqueue(stream, [copy, staged] { run(copy); });
}

/// blocking: cudaMemcpy, else cudaMemcpyAsync.
cudaError_t queue_copy(const std::shared_ptr<CUstream_st>& stream, Copy copy, cudaMemcpyKind kind, bool blocking) {
    if (copy.to.pitch < copy.width || copy.from.pitch < copy.width) return cudaErrorInvalidPitchValue;
    if (!copy.width || !copy.height) return cudaSuccess;
    copy.device = stream->device;
    check(copy, kind);
    if (mutated("drop", copy.who)) return cudaSuccess;
    if (mutated("less", copy.who))
        copy.height > 1 ? copy.height -= 1 : copy.width -= std::min<std::size_t>(copy.width, 4);
    if (copy.to_device() && copy.from_place == Place::pageable) return run_later_staged(stream, copy), cudaSuccess;
    const Point end = enqueue(stream, [copy] { run(copy); });
    const bool on_device = copy.to_device() && copy.from_device();
    const bool host_waits =
        blocking ? !on_device : copy.to_place == Place::pageable || (!copy.to_device() && !copy.from_device());
    if (host_waits) force({end});
    return cudaSuccess;
}

Copy make_copy(const char* who, void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
               std::size_t width, std::size_t height) {
    Copy copy;
    copy.who = who;
    copy.to = {static_cast<std::byte*>(to), to_pitch};
    copy.from = {static_cast<std::byte*>(const_cast<void*>(from)), from_pitch};
    copy.width = width;
    copy.height = height;
    return copy;
}

cudaError_t queue_memset(const std::shared_ptr<CUstream_st>& stream, const char* who, void* to, std::size_t pitch,
                         int value, std::size_t width, std::size_t height) {
    if (pitch < width) return cudaErrorInvalidPitchValue;
    const int device = stream->device;
    require_device(to, extent(pitch, width, height), device, who, "the target");
    if (mutated("drop", who)) return cudaSuccess;
    if (mutated("less", who)) height > 1 ? height -= 1 : width -= std::min<std::size_t>(width, 4);
    enqueue(stream, [=] {
        for (std::size_t row = 0; row < height; ++row) {
            std::byte* begin = static_cast<std::byte*>(to) + row * pitch;
            std::memset(begin, value, width);
            global_memory(device).wrote(begin, width);
        }
    });
    return cudaSuccess;
}

}  // namespace
}  // namespace sim::runtime

using namespace sim::runtime;

extern "C" {

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    return call([&] {
        return queue_copy(stream_of(stream, "cudaMemcpyAsync"),
                          make_copy("cudaMemcpyAsync", to, bytes, from, bytes, bytes, 1), kind, false);
    });
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    return call([&] {
        return queue_copy(stream_of(stream, "cudaMemcpy2DAsync"),
                          make_copy("cudaMemcpy2DAsync", to, to_pitch, from, from_pitch, width, height), kind, false);
    });
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    return call([&] {
        return queue_copy(null_stream(current_device()), make_copy("cudaMemcpy", to, bytes, from, bytes, bytes, 1),
                          kind, true);
    });
}

cudaError_t cudaMemcpy2D(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                         std::size_t height, cudaMemcpyKind kind) {
    return call([&] {
        return queue_copy(null_stream(current_device()),
                          make_copy("cudaMemcpy2D", to, to_pitch, from, from_pitch, width, height), kind, true);
    });
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
    return call([&] {
        return queue_memset(stream_of(stream, "cudaMemsetAsync"), "cudaMemsetAsync", to, bytes, value, bytes, 1);
    });
}

cudaError_t cudaMemset2DAsync(void* to, std::size_t pitch, int value, std::size_t width, std::size_t height,
                              cudaStream_t stream) {
    return call([&] {
        return queue_memset(stream_of(stream, "cudaMemset2DAsync"), "cudaMemset2DAsync", to, pitch, value, width,
                            height);
    });
}

cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
    return call([&] { return queue_memset(null_stream(current_device()), "cudaMemset", to, bytes, value, bytes, 1); });
}

cudaError_t cudaMemset2D(void* to, std::size_t pitch, int value, std::size_t width, std::size_t height) {
    return call(
        [&] { return queue_memset(null_stream(current_device()), "cudaMemset2D", to, pitch, value, width, height); });
}

}  // extern "C"
