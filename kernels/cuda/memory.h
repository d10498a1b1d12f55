// What a CUDA device owns: one piece of device memory and one of pinned host memory, out of which its arenas
// (kernels/arena.h) hand out tensors, and its streams and events. Destructors give them back and ignore errors, since a
// device that failed has reported it before.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <deque>
#include <vector>

#include "core/clock.h"
#include "kernels/cuda/cuda_check.h"

namespace longlora::cuda {

/// Like check, but throws Error(does_not_fit) if there is too little memory: the user asked for too much.
inline void check_memory(cudaError_t status, const char* what, std::int64_t bytes) {
    if (status == cudaErrorMemoryAllocation)
        fail(text(bytes_text(bytes), " of ", what,
                  " are not free; end other programs that use it, or ask for less (GPU memory: --memory)"),
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

/// One cudaHostAlloc, or none if bytes is 0.
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

/// Streams by number. None of them waits for the default stream, and the destructor waits until all are empty. Stream 0
/// computes and has the least priority. Other streams run little work (NCCL messages, copies) for which others wait.
/// They have the greatest priority, so their work starts as soon as a multiprocessor is free, not behind the thousands
/// of blocks of an attention kernel.
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
        int least = 0, greatest = 0;  // both stay 0 on a GPU without priorities
        check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
        check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, streams_.empty() ? least : greatest),
              "cudaStreamCreateWithPriority");
        streams_.push_back(stream);
        return static_cast<int>(streams_.size()) - 1;
    }
    int count() const { return static_cast<int>(streams_.size()); }
    cudaStream_t operator[](int index) const {
        ensure(index >= 0 && index < static_cast<int>(streams_.size()), "there is no stream of this number");
        return streams_[index];
    }

private:
    std::vector<cudaStream_t> streams_;
};

/// Events by ticket; tickets rise. Events that were reached are used again, so after some steps no new ones are made.
class Events {
public:
    Events() = default;
    ~Events() {
        for (const cudaEvent_t event : pending_) cudaEventDestroy(event);
    }
    Events(const Events&) = delete;
    Events& operator=(const Events&) = delete;

    std::uint64_t record(cudaStream_t stream) {
        pending_.push_back(unused());  // owned before anything can fail
        check(cudaEventRecord(pending_.back(), stream), "cudaEventRecord");
        return first_ticket_ + pending_.size() - 1;
    }
    /// A ticket below first_ticket_ was reached long ago: its event is already in use again.
    void wait(cudaStream_t stream, std::uint64_t ticket) const {
        ensure(ticket > 0 && ticket < first_ticket_ + pending_.size(),
               "an event must be recorded before a stream waits for it");
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
        cudaGetLastError();  // clears "not ready", which is not an error
        return false;
    }
    /// Returns the oldest event if it was reached, else a new one.
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

    std::deque<cudaEvent_t> pending_;  // event i has ticket first_ticket_ + i
    std::uint64_t first_ticket_ = 1;
};

}  // namespace longlora::cuda
