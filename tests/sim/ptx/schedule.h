// Who runs next: the lanes of a warp, the warps of a block.
#pragma once

#include "sim/ptx/warp.h"

namespace sim::ptx {

/// Runs a warp until it waits at a barrier of the block (warp.barrier >= 0) or all its lanes have left.
void run_warp(Warp& warp);
/// Runs all warps of a block to their end.
void run_block(Block& block);
/// A warp has come to a barrier instruction with all its lanes (barriers.cpp).
void arrive_at_barrier(Warp& warp, const Instruction& instruction, bool waits);

}  // namespace sim::ptx
