// What a CUDA device owns outside of its arenas: one piece of device memory, one of pinned host memory, streams,
// events. Each is given back when destroyed; errors of giving back are not looked at, since a device that failed has
// told so before.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <deque>
#include <vector>

#include "core/clock.h"
#include "kernels/cuda/cuda_check.h"

namespace longlora::cuda {

/// As check, but memory that is not there is the user's matter, who asked for so much: Error(does_not_fit).
inline void check_memory(cudaError_t status, const char* what, std::int64_t bytes) {
    if (status == cudaErrorMemoryAllocation)
        fail(text(bytes_text(bytes), " of ", what,
                  " are not to be had; end what else uses it, or give less (--memory for the GPU's)"),
             ExitCode::does_not_fit);
    check(status, what);
}

/// One cudaMalloc.
class DeviceMemory {
public:
    explicit DeviceMemory(std::int64_t bytes) : bytes_(bytes) {
        check_memory(cudaMalloc(&begin_, static_cast<std::size_t>(bytes)), "GPU memory", bytes);
    }
    ~DeviceMemory() { cudaFree(begin_); }
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;
    std::byte* begin() const { return static_cast<std::byte*>(begin_); }
    std::int64_t size_bytes() const { return bytes_; }

private:
    void* begin_ = nullptr;
    std::int64_t bytes_;
};

/// One cudaHostAlloc; none for 0 bytes.
class PinnedMemory {
public:
    explicit PinnedMemory(std::int64_t bytes) : bytes_(bytes) {
        if (bytes > 0)
            check_memory(cudaHostAlloc(&begin_, static_cast<std::size_t>(bytes), cudaHostAllocDefault),
                         "pinned host memory", bytes);
    }
    ~PinnedMemory() {
        if (begin_) cudaFreeHost(begin_);
    }
    PinnedMemory(const PinnedMemory&) = delete;
    PinnedMemory& operator=(const PinnedMemory&) = delete;
    std::byte* begin() const { return static_cast<std::byte*>(begin_); }
    std::int64_t size_bytes() const { return bytes_; }

private:
    void* begin_ = nullptr;
    std::int64_t bytes_;
};

/// Streams by number, none of which waits for the default stream. All are empty before they go. Stream 0 computes, with
/// the least priority. What others run (messages of NCCL, copies) is little and awaited elsewhere: by the greatest one
/// it comes next when a processor gets free, and not behind the thousands of blocks of a launch of attention.
class Streams {
public:
    Streams() { make(); }
    ~Streams() {
        for (const cudaStream_t stream : streams_) cudaStreamSynchronize(stream), cudaStreamDestroy(stream);
    }
    Streams(const Streams&) = delete;
    Streams& operator=(const Streams&) = delete;

    int make() {
        cudaStream_t stream = nullptr;
        int least = 0, greatest = 0;  // both 0 where a GPU knows no priorities
        check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
        check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, streams_.empty() ? least : greatest),
              "cudaStreamCreateWithPriority");
        streams_.push_back(stream);
        return static_cast<int>(streams_.size()) - 1;
    }
    int count() const { return static_cast<int>(streams_.size()); }
    cudaStream_t operator[](int index) const {
        ensure(index >= 0 && index < static_cast<int>(streams_.size()), "no such stream");
        return streams_[static_cast<std::size_t>(index)];
    }

private:
    std::vector<cudaStream_t> streams_;
};

/// Events under rising tickets. An event that was reached is used again, so after some steps none is made any more.
class Events {
public:
    Events() = default;
    ~Events() {
        for (const cudaEvent_t event : pending_) cudaEventDestroy(event);
    }
    Events(const Events&) = delete;
    Events& operator=(const Events&) = delete;

    std::uint64_t record(cudaStream_t stream) {
        pending_.push_back(unused());  // ours before anything can fail
        check(cudaEventRecord(pending_.back(), stream), "cudaEventRecord");
        return first_ticket_ + pending_.size() - 1;
    }
    /// A ticket whose event is in use again was reached long ago.
    void wait(cudaStream_t stream, std::uint64_t ticket) const {
        ensure(ticket > 0 && ticket < first_ticket_ + pending_.size(),
               "an event is waited for that was never recorded");
        if (ticket >= first_ticket_)
            check(cudaStreamWaitEvent(stream, pending_[ticket - first_ticket_], 0), "cudaStreamWaitEvent");
    }

    bool reached(std::uint64_t ticket) const {
        return ticket < first_ticket_ || was_reached(pending_[ticket - first_ticket_]);
    }

private:
    static bool was_reached(cudaEvent_t event) {
        const cudaError_t status = cudaEventQuery(event);
        if (status == cudaSuccess) return true;
        if (status != cudaErrorNotReady) check(status, "cudaEventQuery");
        cudaGetLastError();  // "not ready" is no error
        return false;
    }
    /// The oldest event if it was reached, else a new one.
    cudaEvent_t unused() {
        cudaEvent_t event = nullptr;
        if (!pending_.empty() && was_reached(pending_.front())) {
            event = pending_.front();
            pending_.pop_front(), ++first_ticket_;
            return event;
        }
        check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
        return event;
    }

    std::deque<cudaEvent_t> pending_;  // by ticket
    std::uint64_t first_ticket_ = 1;
};

}  // namespace longlora::cuda
