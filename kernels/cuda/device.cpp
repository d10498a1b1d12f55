// CudaDevice: a GPU as a Device. It allocates one piece of device memory and one of pinned host memory when it is made
// and nothing later. It has CUDA streams, queues copies on them, and runs operations by backend.h. find_gpus.cpp says
// which GPU can be used.
#include "kernels/device.h"

#include <chrono>
#include <cmath>
#include <deque>
#include <thread>

#include "kernels/address_range.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/find_gpus.h"
#include "kernels/cuda/heap_notes.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/native.h"

namespace longlora {
namespace {

/// The members are made in this order: usable_gpu checks the GPU before memory is allocated on it.
struct CudaRanges {
    Gpu gpu;
    cuda::DeviceMemory device_memory;
    cuda::PinnedMemory pinned_memory;
    cuda::HeapNotes notes;

    explicit CudaRanges(const DeviceOptions& options)
        : gpu(cuda::usable_gpu(options.gpu, rounded(options.memory_bytes))),
          device_memory(rounded(options.memory_bytes)),
          pinned_memory(rounded(options.pinned_bytes)),
          notes(device_memory.begin(), device_memory.size_bytes()) {}
    static std::int64_t rounded(std::int64_t bytes) { return (bytes + 255) / 256 * 256; }
};

class CudaDevice final : private CudaRanges, public Device {
public:
    explicit CudaDevice(const DeviceOptions& options)
        : CudaRanges(options),
          Device(device_memory.begin(), device_memory.size_bytes(), pinned_memory.begin(), pinned_memory.size_bytes()),
          own_(watched_memory().tensor(DType::uint8, {cuda_own_bytes()}, Use::workspace)),
          backend_(streams_, *own_, options.gpu) {}
    ~CudaDevice() override {
        for (int i = 0; i < streams_.count(); ++i) cudaStreamSynchronize(streams_[i]);
    }

    DeviceKind kind() const override { return DeviceKind::cuda; }
    std::string description() const override {
        return text(gpu.name, " (sm_", gpu.major, gpu.minor, "), ",
                    std::llround(static_cast<double>(gpu.total_bytes) / 0x1p30), " GB");
    }
    bool good_at_bfloat16() const override { return true; }

    Stream make_stream() override { return {streams_.make()}; }
    Event record(Stream stream) override { return {events_.record(streams_[stream.index])}; }
    void wait(Stream stream, Event event) override { events_.wait(streams_[stream.index], event.ticket); }
    /// Polls the stream instead of blocking, so that look_around() can call progress() and waiting() meanwhile:
    /// communicators move messages and the watchdog learns that this rank waits.
    void synchronize(Stream stream) override {
        constexpr int kPatience = 200;  // polls without sleeping
        for (int asked = 0; !empty(streams_[stream.index]); ++asked) {
            look_around();
            if (asked > kPatience) std::this_thread::sleep_for(std::chrono::microseconds(20));
        }
        if (stream.index == compute_stream().index) marks_.clear();
    }
    /// A stream holds some thousand launches. When it is full, a launch waits for the GPU; then the marks are the only
    /// report of progress during a long part of a step.
    void mark_progress() override {
        look_around();
        if (marks_.size() < kMostMarks) marks_.push_back(events_.record(streams_[0]));
    }

    void copy_to_device(Tensor device, ConstTensor host, Stream stream) override {
        check_copy(device, host, "copy_to_device");
        recorder().add("copy_to_device", 0, static_cast<double>(device.size_bytes()));
        copy_between(device, host, cudaMemcpyHostToDevice, stream);
    }
    void copy_to_host(Tensor host, ConstTensor device, Stream stream) override {
        check_copy(host, device, "copy_to_host");
        recorder().add("copy_to_host", 0, static_cast<double>(device.size_bytes()));
        copy_between(host, device, cudaMemcpyDeviceToHost, stream);
    }

    cudaStream_t native(Stream stream) const { return streams_[stream.index]; }

protected:
    OpsBackend* backend() override { return &backend_; }

private:
    static constexpr std::size_t kMostMarks = 1024;
    Arena& watched_memory() {
        memory().set_watcher(&notes);
        return memory();
    }
    /// Calls progress() for marks that were reached before it calls waiting(), so that finished work is reported even
    /// if waiting() throws.
    void look_around() {
        bool reached = false;
        for (; !marks_.empty() && events_.reached(marks_.front()); marks_.pop_front()) reached = true;
        if (reached) progress();
        waiting();
    }
    static bool empty(cudaStream_t stream) {
        const cudaError_t status = cudaStreamQuery(stream);
        if (status == cudaSuccess) return true;
        if (status != cudaErrorNotReady) cuda::check(status, "cudaStreamQuery");
        cudaGetLastError();  // clears "not ready", which is not an error
        return false;
    }
    void copy_between(const Tensor& to, const ConstTensor& from, cudaMemcpyKind kind, Stream stream) {
        const cudaStream_t queue = streams_[stream.index];
        if (to.count() == 0) return;
        if (to.contiguous() && from.contiguous())
            return cuda::check(cudaMemcpyAsync(to.bytes, from.bytes, to.size_bytes(), kind, queue), "cudaMemcpyAsync");
        const auto bytes = [size = size_of(to.dtype)](std::int64_t elements) { return elements * size; };
        cuda::check(cudaMemcpy2DAsync(to.bytes, bytes(to.row_stride), from.bytes, bytes(from.row_stride),
                                      bytes(to.width()), to.num_rows(), kind, queue),
                    "cudaMemcpy2DAsync");
    }

    cuda::Streams streams_;
    cuda::Events events_;
    std::deque<std::uint64_t> marks_;  // tickets of mark_progress, in the order of the compute stream
    ArenaTensor own_;
    cuda::CudaBackend backend_;
};

}  // namespace

std::unique_ptr<Device> make_cuda_device(const DeviceOptions& options) { return std::make_unique<CudaDevice>(options); }

namespace cuda {

cudaStream_t native_stream(const Device& device, Stream stream) {
    const auto* found = dynamic_cast<const CudaDevice*>(&device);
    ensure(found, "only a CUDA device has CUDA streams");
    return found->native(stream);
}

}  // namespace cuda
}  // namespace longlora
