// Sass: what the machine code of a kernel says about its speed: the block inside a loop that has the most tensor-core
// instructions, and what it asks of each unit of a multiprocessor. Counts only; how long memory takes, stalls and
// clocks are not in the code.
#pragma once

#include "tests/bench/roofline/cubin.h"

namespace longlora::roofline {

/// Instructions [begin, end) of a kernel, one after the other without a branch in or out.
struct Block {
    std::size_t begin = 0, end = 0;
    std::int64_t instructions = 0, hmma = 0, mufu = 0;
    double wavefronts = 0;   ///< of shared memory, without bank conflicts
    std::int64_t local = 0;  ///< loads and stores of spilled registers
    bool in_loop = false;    ///< of main_block: found inside a loop

    /// Cycles of one scheduler of sm_80 for one warp: an HMMA m16n8k16 takes the tensor core 8, a MUFU 8 (16 lanes a
    /// cycle for four schedulers), an instruction its issue slot 1, a wavefront the shared memory of all four
    /// schedulers 1, so 4 of each one's; conflict: how many times as many wavefronts bank conflicts make of them.
    double t_mma() const { return 8.0 * static_cast<double>(hmma); }
    double t_issue() const { return static_cast<double>(instructions); }
    double t_mufu() const { return 8.0 * static_cast<double>(mufu); }
    double t_shared(double conflict) const { return 4.0 * wavefronts * conflict; }
    double tensor_core_share(double conflict) const;  ///< t_mma / the largest of all four; 0 without HMMA
};

/// The block with most HMMA among those inside a loop; of kernels without HMMA the largest block inside a loop; the
/// whole kernel if it has no loop.
Block main_block(const CompiledKernel& kernel);
Block whole(const CompiledKernel& kernel);

/// Blocks of `threads` threads that one multiprocessor of sm_80 holds, by registers, shared memory (with 1 KiB of the
/// system's each) and threads.
int blocks_per_multiprocessor(const CompiledKernel& kernel, int threads, std::int64_t dynamic_shared_bytes);

}  // namespace longlora::roofline
