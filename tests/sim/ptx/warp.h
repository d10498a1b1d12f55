// The state of a warp and of the block it belongs to while they run. What instructions do to it stands in the files of
// their kind.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sim/ptx/async.h"
#include "sim/ptx/program.h"
#include "sim/ptx/registers.h"

namespace sim::ptx {

class SharedMemory;
struct Block;

struct Warp {
    std::array<char*, 2> base{};  ///< registers, constants
    Block* block = nullptr;
    unsigned index = 0;                           ///< in its block
    Lanes live = 0, parked = 0;                   ///< not yet left; waiting for other lanes at a *.sync
    Lanes started = 0;                            ///< lanes that the block has at all
    Lanes carry = 0;                              ///< condition code of add.cc
    std::uint32_t pc = 0;                         ///< of the lanes that run
    std::array<std::uint32_t, kLanes> lane_pc{};  ///< of the others
    int barrier = -1;                             ///< the barrier it waits at
    std::uint32_t barrier_pc = 0;
    std::uint32_t ordered =
        0;  ///< ticks before this one: accesses of all warps are ordered before what this warp does now
    std::vector<std::uint32_t> seen;  ///< by warp: the same of that warp alone
    /// By lane, then by lane: the same among the lanes of this warp. Empty while they have all seen one another up to
    /// seen[index]: from a barrier of the block or of the whole warp to the next bar.warp.sync of a part of its lanes.
    std::vector<std::array<std::uint32_t, kLanes>> lane_seen;
    char* local = nullptr;                  ///< local memory, lane after lane
    std::uint8_t* local_written = nullptr;  ///< a byte per byte of it
    const struct Access* store = nullptr;   ///< the store to shared memory that runs now, with its offsets
    std::vector<AsyncCopies> copies;        ///< by lane, empty until the first cp.async
};

/// Lanes of the rows of `instruction`.
template <class T> T* row(Warp& warp, Row at) { return reinterpret_cast<T*>(warp.base[at >> 31] + (at & ~kConstant)); }

/// A barrier of a block while warps wait at it.
struct Barrier {
    unsigned expected = 0, arrived = 0;          ///< threads
    Lanes warps = 0, members = 0;                ///< that wait; that came
    unsigned number_true = 0, number_asked = 0;  ///< lanes, for bar.red
    std::uint32_t pc = 0;                        ///< of the first that came
    std::vector<std::uint32_t> seen;             ///< what those that came had seen
};

/// A block while it runs, and what the launch shares between its blocks.
struct Block {
    const Kernel* kernel = nullptr;
    const Launch* launch = nullptr;
    GlobalMemory::Shadow* global = nullptr;
    SharedMemory* shared = nullptr;
    Counts* counts = nullptr;
    std::vector<std::uint64_t>* executed = nullptr;                   ///< by instruction
    double *worst_bank_conflict = nullptr, *worst_sectors = nullptr;  ///< by instruction
    Extent index;                                                     ///< .x .y .z from 0
    std::uint32_t* tick = nullptr;  ///< time: moves at every barrier, warp barrier and block; never back
    std::uint32_t first_tick = 0, launch_tick = 0;  ///< of this block, of this launch
    std::uint32_t settled = 0;                      ///< ticks before this one are ordered before all warps
    std::vector<Warp> warps;
    std::array<Barrier, 16> barriers{};
    unsigned threads = 0;
    bool reversed = false;  ///< warps run the other way round
};

/// Throws Fault: kernel, block, lanes, line, text, source line, then `what`.
[[noreturn]] void fault(const Warp& warp, Lanes lanes, const std::string& what);
/// The instruction `pc` as text: "line 12 `ld.shared ...` (file.cu:7)".
std::string instruction_text(const Kernel& kernel, std::uint32_t pc);
/// "0x0000ffff"
std::string lanes_text(Lanes lanes);
/// "thread (1,0,0)" or "threads (0,0,0) and 30 others"
std::string threads_text(const Block& block, unsigned warp, Lanes lanes);

}  // namespace sim::ptx
