// Registers of a warp: a row holds one register of all 32 lanes, one after another, and before it a header whose last
// word says which lanes were ever written. A predicate is one word of 32 bits. Rows of constants look the same and lie
// beside the code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sim/ptx/program.h"

namespace sim::ptx {

constexpr std::size_t kRowHeader = 32;

constexpr std::size_t row_bytes(unsigned bytes_per_lane) {
    return bytes_per_lane == 0 ? 32 : std::size_t{kLanes} * bytes_per_lane;
}

/// Of a pair of 32-bit registers that mov.b64 made, the lanes whose lower (0) or upper (1) one was written. nvcc makes
/// such pairs with one half of nothing and takes the other one out again. Said by the mov alone: what else writes the
/// register later says it of the whole.
inline Lanes& half_written(void* row, unsigned half) { return static_cast<Lanes*>(row)[-2 - static_cast<int>(half)]; }
inline Lanes half_written(const void* row, unsigned half) {
    return static_cast<const Lanes*>(row)[-2 - static_cast<int>(half)];
}

/// Which lanes of a row hold something that was written.
inline Lanes& written(void* row) { return static_cast<Lanes*>(row)[-1]; }
inline Lanes written(const void* row) { return static_cast<const Lanes*>(row)[-1]; }

}  // namespace sim::ptx
