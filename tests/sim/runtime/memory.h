// Memory: which addresses are device memory, which are pinned host memory. Device memory is address space of this
// process, with unmapped gaps between allocations; addresses are never used twice, so that a pointer kept too long is
// found. What was written is known to ptx::GlobalMemory.
#pragma once

#include <cstddef>
#include <string_view>

#include "sim/ptx/launch.h"

namespace sim::runtime {

enum class Place { device, pinned, pageable };

/// A block that cudaMalloc, cudaHostAlloc or cudaHostRegister made known.
struct Block {
    std::byte* begin = nullptr;
    std::size_t bytes = 0;
    Place place = Place::device;
    int device = 0;           ///< of the allocation; the current one for pinned memory
    unsigned flags = 0;       ///< of pinned memory
    bool mapped = false;      ///< kernels may access it
    bool registered = false;  ///< the program's own memory (cudaHostRegister)
};

/// nullptr when the device has not that much left. Never filled: gigabytes cost nothing until they are touched.
void* allocate_device(int device, std::size_t bytes);
/// false: not the beginning of device memory.
bool free_device(void* begin);
std::size_t device_bytes_free(int device);

/// nullptr: the machine has no such memory.
void* allocate_pinned(std::size_t bytes, unsigned flags, bool mapped, int device);
/// false: some of it is pinned already.
bool register_pinned(void* begin, std::size_t bytes, unsigned flags, bool mapped, int device);
/// false: not the beginning of a block of that kind.
bool free_pinned(void* begin, bool registered);

/// The block that an address is in; nullptr: pageable host memory, or nobody's.
const Block* find_block(const void* address);
/// Where all `bytes` at `address` lie. Misuse, naming `who`, when they reach over the end of a block.
Place place_of(const void* address, std::size_t bytes, std::string_view who);
/// Misuse unless all of it is memory of that device. `what` is the argument's name.
void require_device(const void* address, std::size_t bytes, int device, std::string_view who, std::string_view what);

/// Rows of `width` bytes, `pitch` apart.
struct Rows {
    const std::byte* begin = nullptr;
    std::size_t pitch = 0, width = 0, height = 0;
};
/// Whether they have a byte in common; rows that lie between one another's have none.
bool overlap(const Rows& a, const Rows& b);

/// What kernels of a device may access.
ptx::GlobalMemory& global_memory(int device);

}  // namespace sim::runtime
