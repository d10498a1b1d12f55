// The state of a warp and of its block while they run. The instructions that change it are in the files of their kinds.
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
    std::array<char*, 2> base{};  ///< the registers and the constants
    Block* block = nullptr;
    unsigned index = 0;                           ///< in its block
    Lanes live = 0, parked = 0;                   ///< lanes that have not left; lanes that wait for others at a *.sync
    Lanes started = 0;                            ///< lanes that exist in the block
    Lanes carry = 0;                              ///< condition code of add.cc
    std::uint32_t pc = 0;                         ///< program counter of the lanes that run
    std::array<std::uint32_t, kLanes> lane_pc{};  ///< program counters of the other lanes
    int barrier = -1;                             ///< the barrier at which it waits; -1: none
    std::uint32_t barrier_pc = 0;
    /// Accesses of all warps before this tick are ordered before what this warp does now.
    std::uint32_t ordered = 0;
    std::vector<std::uint32_t> seen;  ///< by warp: the same for that warp alone
    /// By lane, then by other lane: the same among the lanes of this warp. Empty while all lanes have seen one another
    /// up to seen[index]: from a barrier of the block or of the whole warp to the next bar.warp.sync of a part of the
    /// lanes.
    std::vector<std::array<std::uint32_t, kLanes>> lane_seen;
    char* local = nullptr;                  ///< local memory, lane after lane
    std::uint8_t* local_written = nullptr;  ///< for each of its bytes: whether it was written
    const struct Access* store = nullptr;   ///< the running store to shared memory, with its offsets
    std::vector<AsyncCopies> copies;        ///< by lane, empty until the first cp.async
};

/// The lanes of a row of registers or of constants.
template <class T> T* row(Warp& warp, Row at) { return reinterpret_cast<T*>(warp.base[at >> 31] + (at & ~kConstant)); }

/// A barrier of a block while warps wait at it.
struct Barrier {
    unsigned expected = 0, arrived = 0;          ///< threads
    Lanes warps = 0, members = 0;                ///< warps that wait; warps that have arrived
    unsigned number_true = 0, number_asked = 0;  ///< lanes, for bar.red
    std::uint32_t pc = 0;                        ///< of the first warp that arrived
    std::vector<std::uint32_t> seen;  ///< by warp: the latest tick up to which a warp that arrived has seen it
};

/// A block while it runs, and the data that all blocks of a launch share.
struct Block {
    const Kernel* kernel = nullptr;
    const Launch* launch = nullptr;
    GlobalMemory::Shadow* global = nullptr;
    SharedMemory* shared = nullptr;
    Counts* counts = nullptr;
    std::vector<std::uint64_t>* executed = nullptr;                   ///< by instruction
    double *worst_bank_conflict = nullptr, *worst_sectors = nullptr;  ///< by instruction
    Extent index;                                                     ///< .x .y .z from 0
    std::uint32_t* tick = nullptr;  ///< time: increases at every barrier, warp barrier and block, never decreases
    std::uint32_t first_tick = 0, launch_tick = 0;  ///< first tick of this block, of this launch
    std::uint32_t settled = 0;                      ///< accesses before this tick are ordered before all warps
    std::vector<Warp> warps;
    std::array<Barrier, 16> barriers{};
    unsigned threads = 0;
    bool reversed = false;  ///< warps run in the reverse order
};

/// Throws a Fault: kernel, block, lanes, line, text, source line, then `what`.
[[noreturn]] void fault(const Warp& warp, Lanes lanes, const std::string& what);
/// The instruction `pc` as text: "PTX line 12 `ld.shared ...` (file.cu:7)".
std::string instruction_text(const Kernel& kernel, std::uint32_t pc);
/// "0x0000ffff"
std::string lanes_text(Lanes lanes);
/// "thread (1,0,0)" or "threads (0,0,0) and 30 others of warp 0".
std::string threads_text(const Block& block, unsigned warp, Lanes lanes);

}  // namespace sim::ptx
