// Device: the limits of a simulated GPU, and the device that a thread uses. The functions of the API are in
// cudart_device.cpp.
#pragma once

#include <cstddef>

namespace sim::runtime {

inline constexpr int kMaxThreadsPerBlock = 1024, kMultiprocessors = 108, kThreadsPerMultiprocessor = 2048,
                     kBlocksPerMultiprocessor = 32;
inline constexpr int kDefaultSharedBytes = 48 << 10, kReservedSharedBytes = 1 << 10, kLevel2Bytes = 40 << 20;
inline constexpr int kGreatestPriority = -5, kFirstBus = 0x10;

/// The device of the calling thread, as numbered among the visible ones.
int& current_device();
bool is_device(int device);
/// The most shared memory that a block may have if cudaFuncSetAttribute asks for it; it depends on the compute
/// capability (CUDA programming guide, technical specifications).
std::size_t max_shared_bytes();
std::size_t shared_bytes_per_multiprocessor();

}  // namespace sim::runtime
