// The cells of global memory, which record the accesses to each word. Bounds and unwritten bytes are checked by
// check_global.cpp.
#pragma once

#include "sim/ptx/addresses.h"
#include "sim/ptx/global_shadow.h"

namespace sim::ptx {

/// Records that this warp reads, writes or atomically changes words; a race is a Fault.
void touch_words(Warp& warp, const GlobalRange& range, std::size_t first, std::size_t number, Use use);
/// The same for bytes that do not make whole words.
void touch_partial(Warp& warp, const GlobalRange& range, std::uintptr_t begin, std::size_t bytes, Use use);

}  // namespace sim::ptx
