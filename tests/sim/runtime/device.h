// Device: the limits of a simulated GPU, and which one a thread uses.
#pragma once

#include <cstddef>

namespace sim::runtime {

inline constexpr int kMaxThreadsPerBlock = 1024, kMultiprocessors = 108, kThreadsPerMultiprocessor = 2048,
                     kBlocksPerMultiprocessor = 32;
inline constexpr int kDefaultSharedBytes = 48 << 10, kReservedSharedBytes = 1 << 10, kLevel2Bytes = 40 << 20;
inline constexpr int kGreatestPriority = -5, kFirstBus = 0x10;

/// Of the calling thread, as numbered among the visible ones.
int& current_device();
bool is_device(int device);
/// Most shared memory that a block may have when cudaFuncSetAttribute asks for it; by compute capability (CUDA
/// programming guide, technical specifications).
std::size_t max_shared_bytes();
std::size_t shared_bytes_per_multiprocessor();

}  // namespace sim::runtime
