// What a kernel's machine code (SASS) says about its speed: finds the block inside a loop with the most tensor-core
// instructions and counts what it asks of each unit of a multiprocessor. These are only counts: the code does not show
// memory latencies, stalls and clocks. cubin.h reads the machine code.
#pragma once

#include "tests/bench/roofline/cubin.h"

namespace longlora::roofline {

/// Instructions [begin, end) of a kernel; no branch enters or leaves in between.
struct Block {
    std::size_t begin = 0, end = 0;
    std::int64_t instructions = 0, hmma = 0, mufu = 0;
    double wavefronts = 0;   ///< of shared memory, without bank conflicts
    std::int64_t local = 0;  ///< loads and stores of spilled registers
    bool in_loop = false;    ///< set by main_block: the block is inside a loop

    /// Cycles of one scheduler of sm_80 for one warp. An HMMA m16n8k16 takes the tensor core for 8 cycles, a MUFU takes
    /// 8 (16 lanes a cycle for four schedulers), and every instruction takes its issue slot for 1. A wavefront takes
    /// the shared memory for 1 cycle; four schedulers share it, so it costs each of them 4. `conflict` is the factor by
    /// which bank conflicts multiply the wavefronts.
    double t_mma() const { return 8.0 * static_cast<double>(hmma); }
    double t_issue() const { return static_cast<double>(instructions); }
    double t_mufu() const { return 8.0 * static_cast<double>(mufu); }
    double t_shared(double conflict) const { return 4.0 * wavefronts * conflict; }
    double tensor_core_share(double conflict) const;  ///< t_mma / the largest of the four times; 0 without HMMA
};

/// Among the blocks inside a loop, returns the one with the most HMMA, or the longest one if the kernel has no HMMA.
/// Returns the whole kernel if it has no loop.
Block main_block(const CompiledKernel& kernel);
Block whole(const CompiledKernel& kernel);

/// How many blocks of `threads` threads one multiprocessor of sm_80 holds. Registers, shared memory and threads limit
/// the number; the system uses 1 KiB of shared memory for each block.
int blocks_per_multiprocessor(const CompiledKernel& kernel, int threads, std::int64_t dynamic_shared_bytes);

}  // namespace longlora::roofline
