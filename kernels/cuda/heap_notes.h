// HeapNotes tells tools that check accesses (compute-sanitizer, the simulated GPU) which bytes of the device memory
// belong to tensors, through NVIDIA's NVTX memory API. Without such a tool it costs one comparison per tensor.
// compute-sanitizer listens unless it gets `--nvtx no`. It takes a note at the moment of the call, and a tensor may be
// given back while kernels that use it are still queued, so set CUDA_LAUNCH_BLOCKING=1 with it.
#pragma once

#include "kernels/arena.h"

namespace longlora::cuda {

/// From construction to destruction the device memory [begin, begin + bytes) is a heap in which kernels may touch only
/// tensors.
class HeapNotes final : public ArenaWatcher {
public:
    HeapNotes(const std::byte* begin, std::int64_t bytes);
    ~HeapNotes() override;
    HeapNotes(const HeapNotes&) = delete;
    HeapNotes& operator=(const HeapNotes&) = delete;
    void handed_out(const std::byte* begin, std::int64_t bytes) override;
    void came_back(const std::byte* begin) override;

private:
    void *domain_ = nullptr, *heap_ = nullptr;  // handles of NVTX
};

}  // namespace longlora::cuda
