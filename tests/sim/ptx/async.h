// Copies that cp.async has begun and nobody has waited for.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "sim/ptx/types.h"

namespace sim::ptx {

struct Warp;

struct AsyncCopy {
    std::uint32_t to = 0;                 ///< offset in shared memory
    std::uint8_t bytes = 0;
    std::array<char, 16> data{};          ///< as it was when the copy began; the rest is zeros
};

/// Of one lane: groups not yet waited for, oldest first, and what is not yet committed.
struct AsyncCopies {
    std::deque<std::vector<AsyncCopy>> groups;
    std::vector<AsyncCopy> open;
};

/// A Fault if one of the lanes has copies in flight.
void check_no_copies(Warp& warp, Lanes lanes);

}  // namespace sim::ptx
