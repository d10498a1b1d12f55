// Device: THE contract of what runs work (with ops.h): memory, streams, events, copies, operations. cpu/, cuda/ and
// plan_device.cpp implement it. Host code reaches a device's bytes only through copy_to_device and copy_to_host.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/arena.h"
#include "kernels/ops.h"
#include "kernels/recorder.h"

namespace longlora {

enum class DeviceKind { cpu, cuda, plan };

/// A queue of work in order. Streams are not ordered among each other, but by events. Handles are cheap values.
struct Stream {
    int index = 0;
};

/// A place in a stream's queue.
struct Event {
    std::uint64_t ticket = 0;
};

class Device {
public:
    virtual ~Device() = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    virtual DeviceKind kind() const = 0;
    /// For people: "AMD EPYC, 2 threads, AVX-512".
    virtual std::string description() const = 0;
    /// Whether bfloat16 is the better choice of --dtype auto here.
    virtual bool good_at_bfloat16() const = 0;

    /// Device memory and pinned host memory. Pinned tensors are host memory: host code may touch them on every device.
    Arena& memory() { return memory_; }
    Arena& pinned() { return pinned_; }
    Recorder& recorder() { return recorder_; }

    /// Stream 0 is the compute stream: layers, losses and optimizer run there. Others are made for copies and
    /// communicators.
    static Stream compute_stream() { return {0}; }
    virtual Stream make_stream() = 0;
    /// An event behind all work queued on the stream so far.
    virtual Event record(Stream stream) = 0;
    /// Work queued on the stream from now on starts after the event.
    virtual void wait(Stream stream, Event event) = 0;
    /// The host waits until the stream is empty.
    virtual void synchronize(Stream stream) = 0;

    /// Copies equal shapes and dtypes, rows may be strided; asynchronous: the host tensor (pinned()) stays untouched
    /// until an event behind the copy is reached. On `plan`, copy_to_host fills with zeros and copy_to_device does
    /// nothing.
    virtual void copy_to_device(Tensor device, ConstTensor host, Stream stream) = 0;
    virtual void copy_to_host(Tensor host, ConstTensor device, Stream stream) = 0;

    /// The operations, queued on a stream.
    Ops ops(Stream stream = compute_stream()) { return Ops(*this, backend(), stream.index); }

    /// Called by the main thread between the tiles of long operations, so that messages move meanwhile (design 3).
    /// Empty = not called.
    void set_progress(std::function<void()> progress) { progress_ = std::move(progress); }
    void progress() const {
        if (progress_) progress_();
    }
    /// A device that works without the host (cuda): called by the main thread in mark_progress() and while it waits in
    /// synchronize(); may throw what it finds wrong.
    void set_waiting(std::function<void()> waiting) { waiting_ = std::move(waiting); }
    /// There: the work queued on the compute stream so far ends a part of something long. Once it is done, a later
    /// mark_progress() or synchronize() calls progress().
    virtual void mark_progress() {}

protected:
    Device(std::byte* memory, std::int64_t memory_bytes, std::byte* pinned, std::int64_t pinned_bytes)
        : memory_(memory, memory_bytes, "device memory"),
          pinned_(pinned, pinned_bytes, "pinned host memory") {}
    /// nullptr: operations are checked and recorded but not run (plan).
    virtual OpsBackend* backend() = 0;
    void waiting() const {
        if (waiting_) waiting_();
    }

private:
    Arena memory_, pinned_;
    Recorder recorder_;
    std::function<void()> progress_, waiting_;
};

/// memory_bytes: what the arena may use at most; 0 = the machine's (or container's) memory (cuda: must be given, it is
/// allocated at once).
struct DeviceOptions {
    std::int64_t memory_bytes = 0;
    int num_threads = 0;  ///< cpu: 0 = OpenMP's own choice
    std::string
        instruction_set{};  ///< cpu: "" = the best that this processor has; "avx2" or "avx512" to ask for less (tests)
    std::int64_t own_bytes =
        0;        ///< plan: what the planned device takes of its arena for itself (cuda_own_bytes()); 0 for a CPU
    int gpu = 0;  ///< cuda: number of the GPU among those that this process sees
    std::int64_t pinned_bytes = std::int64_t{256} << 20;  ///< cuda: pinned host memory, allocated at once
};

std::unique_ptr<Device> make_cpu_device(const DeviceOptions& options = {});
/// Computes nothing: memory is reserved, inaccessible address space, so any touch by host code ends the process
/// (SIGSEGV).
std::unique_ptr<Device> make_plan_device(const DeviceOptions& options = {});

/// Kernels use instructions of compute capability 8.0.
constexpr int kLeastComputeMajor = 8;

/// A GPU that this process sees.
struct Gpu {
    std::string name;          ///< "NVIDIA H100 80GB HBM3"
    int major = 0, minor = 0;  ///< compute capability
    std::int64_t total_bytes = 0;
    std::string id{};  ///< of the device itself: equal where two processes see the same one, on whatever number
};

/// What there is to compute on with CUDA. Where GPUs cannot be used, `gpus` is empty and `problem` says why in one
/// sentence and what to do
/// ("this build has no CUDA: ...", "no GPU is visible ...", "the driver is older than ...").
struct Gpus {
    std::string problem;
    std::vector<Gpu> gpus;
};
Gpus find_gpus();
/// What may be asked of GPU `gpu` now. Makes this process's context on it (some hundred MB), so it is asked of the GPU
/// that will be used and of no other.
std::int64_t free_gpu_bytes(int gpu);

/// What a CUDA device takes of its arena for itself when it is made (workspaces of cuBLAS and of our kernels, 32 MiB
/// each; kernels/cuda/backend.h). Known to every build: plans need it.
constexpr std::int64_t cuda_own_bytes() { return std::int64_t{64} << 20; }
/// Throws Error(bad_input) with one sentence when the GPU is not there, too old (compute capability below 8.0), or
/// memory_bytes are not free on it.
std::unique_ptr<Device> make_cuda_device(const DeviceOptions& options);

}  // namespace longlora
