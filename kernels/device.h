// Device is, together with ops.h, the contract of what runs the work: memory, streams, events, copies and operations.
// cpu/, cuda/ and plan_device.cpp implement it. Host code reaches the bytes of a device only through copy_to_device
// and copy_to_host.
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

/// A queue of work that runs in order. Only events order the work of different streams. A Stream is a handle: copying
/// it is cheap and does not copy the queue.
struct Stream {
    int index = 0;
};

/// A place in the queue of a stream.
struct Event {
    std::uint64_t ticket = 0;
};

class Device {
public:
    virtual ~Device() = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    virtual DeviceKind kind() const = 0;
    /// A text for the user, such as "AMD EPYC, 2 threads, AVX-512".
    virtual std::string description() const = 0;
    /// Whether --dtype auto takes bfloat16 on this device.
    virtual bool good_at_bfloat16() const = 0;

    /// Device memory, and pinned host memory. Pinned tensors are host memory, so host code may touch them on every
    /// device.
    Arena& memory() { return memory_; }
    Arena& pinned() { return pinned_; }
    Recorder& recorder() { return recorder_; }

    /// Stream 0 is the compute stream: layers, losses and the optimizer run there. Copies and communicators make
    /// other streams.
    static Stream compute_stream() { return {0}; }
    virtual Stream make_stream() = 0;
    /// Returns an event that is reached when all work that is now in the stream is done.
    virtual Event record(Stream stream) = 0;
    /// Work that is put into the stream from now on starts after the event is reached.
    virtual void wait(Stream stream, Event event) = 0;
    /// The host waits until all work in the stream is done.
    virtual void synchronize(Stream stream) = 0;

    /// Both tensors have one shape and type, and their rows may be strided. The copies are asynchronous: the caller
    /// leaves the host tensor, which lies in pinned(), untouched until an event after the copy is reached. On `plan`,
    /// copy_to_host fills the host tensor with zeros and copy_to_device does nothing.
    virtual void copy_to_device(Tensor device, ConstTensor host, Stream stream) = 0;
    virtual void copy_to_host(Tensor host, ConstTensor device, Stream stream) = 0;

    /// The operations, which put their work into this stream.
    Ops ops(Stream stream = compute_stream()) { return Ops(*this, backend(), stream.index); }

    /// The device calls this function from the main thread between parts of long work, so that messages move
    /// meanwhile (see parallel::Communicator::progress). An empty function is not called.
    void set_progress(std::function<void()> progress) { progress_ = std::move(progress); }
    void progress() const {
        if (progress_) progress_();
    }
    /// For a device that works without the host (cuda): the main thread calls this function in mark_progress() and
    /// while it waits in synchronize(). The function may throw, for example when another rank is lost.
    void set_waiting(std::function<void()> waiting) { waiting_ = std::move(waiting); }
    /// On such a device, says that the work that is now in the compute stream ends a part of long work. Once this
    /// work is done, a later mark_progress() or synchronize() calls progress().
    virtual void mark_progress() {}

protected:
    Device(std::byte* memory, std::int64_t memory_bytes, std::byte* pinned, std::int64_t pinned_bytes)
        : memory_(memory, memory_bytes, "device memory"),
          pinned_(pinned, pinned_bytes, "pinned host memory") {}
    /// nullptr: Ops checks and records operations but does not run them (plan).
    virtual OpsBackend* backend() = 0;
    void waiting() const {
        if (waiting_) waiting_();
    }

private:
    Arena memory_, pinned_;
    Recorder recorder_;
    std::function<void()> progress_, waiting_;
};

/// The comment of each field begins with the kind of device that reads the field, unless all do.
struct DeviceOptions {
    /// The size of the arena. 0: cpu takes the memory of the computer or container, plan 64 TiB of address space; cuda
    /// needs a size, since it allocates the arena at once.
    std::int64_t memory_bytes = 0;
    int num_threads = 0;  ///< cpu: 0 = as OpenMP chooses
    /// cpu: "" = the best instruction set of this processor; tests ask for "avx2" or "avx512".
    std::string instruction_set{};
    /// plan: the bytes that the planned device takes of its arena for itself: cuda_own_bytes(), or 0 for a CPU.
    std::int64_t own_bytes = 0;
    int gpu = 0;  ///< cuda: number of the GPU among those that this process sees
    std::int64_t pinned_bytes = std::int64_t{256} << 20;  ///< cuda: pinned host memory, allocated at once
};

std::unique_ptr<Device> make_cpu_device(const DeviceOptions& options = {});
/// Makes a device that computes nothing. Its memory is reserved, inaccessible address space, so host code that
/// touches it ends the process (SIGSEGV).
std::unique_ptr<Device> make_plan_device(const DeviceOptions& options = {});

/// The kernels use instructions of compute capability 8.0.
constexpr int kLeastComputeMajor = 8;

/// A GPU that this process sees.
struct Gpu {
    std::string name;          ///< "NVIDIA H100 80GB HBM3"
    int major = 0, minor = 0;  ///< compute capability
    std::int64_t total_bytes = 0;
    std::string id{};  ///< identifies the GPU itself: two processes that see the same GPU get the same id
};

/// The GPUs that CUDA can use. If there are none, `problem` says in one sentence why, and what to do ("this build has
/// no CUDA: ...", "no GPU is visible ...", "the driver is older than ...").
struct Gpus {
    std::string problem;
    std::vector<Gpu> gpus;
};
Gpus find_gpus();
/// The free memory of GPU `gpu` now. This call makes the context of this process on the GPU (some hundred MB), so
/// call it only for the GPU that the process will use.
std::int64_t free_gpu_bytes(int gpu);

/// The bytes that a CUDA device takes of its arena for itself when it is made: 32 MiB each for cuBLAS and for the
/// scratch memory of the kernels (kernels/cuda/backend.h). Every build knows the number, since plans need it.
constexpr std::int64_t cuda_own_bytes() { return std::int64_t{64} << 20; }
/// Throws one sentence: Error(bad_input) if the GPU does not exist or is too old (compute capability below 8.0),
/// Error(does_not_fit) if less than memory_bytes are free on it.
std::unique_ptr<Device> make_cuda_device(const DeviceOptions& options);

}  // namespace longlora
