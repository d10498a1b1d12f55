// Tells tools that check accesses (compute-sanitizer, the simulated GPU) which bytes of the one piece of device memory
// belong to tensors, through NVIDIA's NVTX memory API. Where no such tool listens it costs a comparison a tensor.
// compute-sanitizer listens unless it is told `--nvtx no`; it takes the word at the moment of the call, and a tensor
// may go while kernels that use it are queued, so set CUDA_LAUNCH_BLOCKING=1 with it.
#pragma once

#include "kernels/arena.h"

namespace longlora::cuda {

/// The device memory [begin, begin + bytes) is a heap from now on, of which only tensors may be touched, and no more
/// when this is destroyed.
class HeapNotes final : public ArenaWatcher {
public:
    HeapNotes(const std::byte* begin, std::int64_t bytes);
    ~HeapNotes() override;
    HeapNotes(const HeapNotes&) = delete;
    HeapNotes& operator=(const HeapNotes&) = delete;
    void handed_out(const std::byte* begin, std::int64_t bytes) override;
    void came_back(const std::byte* begin) override;

private:
    void *domain_ = nullptr, *heap_ = nullptr;  // of NVTX
};

}  // namespace longlora::cuda
