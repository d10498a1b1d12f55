// Memory: which addresses are device memory, and which are pinned host memory. Device memory is address space of this
// process, with unmapped gaps between allocations. No address is used twice, so that a pointer kept too long is found.
// ptx::GlobalMemory records which bytes were written.
#pragma once

#include <cstddef>
#include <string_view>

#include "sim/ptx/launch.h"

namespace sim::runtime {

enum class Place { device, pinned, pageable };

/// A block of memory that cudaMalloc, cudaHostAlloc or cudaHostRegister made known.
struct Block {
    std::byte* begin = nullptr;
    std::size_t bytes = 0;
    Place place = Place::device;
    int device = 0;           ///< device of the allocation; for pinned memory the device that was current
    unsigned flags = 0;       ///< for pinned memory
    bool mapped = false;      ///< kernels may access it
    bool registered = false;  ///< memory of the program itself (cudaHostRegister)
};

/// Returns nullptr if the device has not enough memory left. The memory is never filled, so gigabytes cost nothing
/// until they are touched.
void* allocate_device(int device, std::size_t bytes);
/// Returns false if `begin` is not the beginning of device memory.
bool free_device(void* begin);
std::size_t device_bytes_free(int device);

/// Returns nullptr if the machine has not enough memory.
void* allocate_pinned(std::size_t bytes, unsigned flags, bool mapped, int device);
/// Returns false if a part of it belongs to a known block already.
bool register_pinned(void* begin, std::size_t bytes, unsigned flags, bool mapped, int device);
/// Returns false if `begin` is not the beginning of a pinned block of that kind.
bool free_pinned(void* begin, bool registered);

/// The block that contains an address; nullptr for pageable host memory, and for addresses without memory.
const Block* find_block(const void* address);
/// Where all `bytes` at `address` lie. Throws Misuse, with `who` in the message, if they cross the bounds of a block.
Place place_of(const void* address, std::size_t bytes, std::string_view who);
/// Throws Misuse unless all these bytes are memory of `device`. `who` and `what` (the argument) are in the message.
void require_device(const void* address, std::size_t bytes, int device, std::string_view who, std::string_view what);

/// Rows of `width` bytes, `pitch` apart.
struct Rows {
    const std::byte* begin = nullptr;
    std::size_t pitch = 0, width = 0, height = 0;
};
/// Whether two sets of rows share a byte; rows that lie in the gaps between one another share none.
bool overlap(const Rows& a, const Rows& b);

/// The memory that kernels of a device may access.
ptx::GlobalMemory& global_memory(int device);

}  // namespace sim::runtime
