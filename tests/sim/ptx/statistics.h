// Counts what the memory system of a GPU would do for each request of a warp.
#pragma once

#include "sim/ptx/addresses.h"

namespace sim::ptx {

/// Counts bytes and 32-byte sectors of a request to global memory, before its addresses are checked.
void count_global(Warp& warp, const Access& access, Use use);
/// Counts wavefronts of a request to shared memory. Its addresses are offsets, not addresses of this process.
void count_shared(Warp& warp, const Access& access);

/// Fills Kernel::opcodes and opcode_of.
void index_opcodes(Kernel& kernel);
/// Adds the counts of a launch to the sums of its kernel.
void add_counts(const Block& block, Counts now, Counts& total);

/// The wavefronts of a request, also for tests: 32 banks of 4 bytes; 8 bytes per lane go in half warps, 16 bytes in
/// quarter warps; lanes that want the same word share it.
struct Wavefronts {
    unsigned number = 0, ideal = 0;
};
Wavefronts wavefronts_of(const std::uint64_t* offsets, Lanes lanes, unsigned bytes);

}  // namespace sim::ptx
