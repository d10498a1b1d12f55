// The cells of global memory that say who touched a word last.
#pragma once

#include "sim/ptx/addresses.h"
#include "sim/ptx/global_shadow.h"

namespace sim::ptx {

/// This warp reads, writes or atomically changes words; a race is a Fault.
void touch_words(Warp& warp, const GlobalRange& range, std::size_t first, std::size_t number, Use use);
/// The same of bytes that do not make whole words.
void touch_partial(Warp& warp, const GlobalRange& range, std::uintptr_t begin, std::size_t bytes, Use use);

}  // namespace sim::ptx
