// The scheduler: which lanes of a warp (schedule.cpp) and which warps of a block (run.cpp) run next.
#pragma once

#include "sim/ptx/warp.h"

namespace sim::ptx {

/// Runs a warp until it waits at a barrier of the block (warp.barrier >= 0) or all its lanes have left.
void run_warp(Warp& warp);
/// Runs all warps of a block to their end.
void run_block(Block& block);
/// Handles a barrier instruction that a warp has reached with all its lanes (barriers.cpp).
void arrive_at_barrier(Warp& warp, const Instruction& instruction, bool waits);

}  // namespace sim::ptx
