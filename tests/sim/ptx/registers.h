// Registers of a warp. A row holds one register of all 32 lanes, one after another. A header precedes the row; its last
// word says which lanes were ever written. A predicate is one word of 32 bits. Rows of constants have the same form and
// are stored with the code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sim/ptx/program.h"

namespace sim::ptx {

constexpr std::size_t kRowHeader = 32;

constexpr std::size_t row_bytes(unsigned bytes_per_lane) {
    return bytes_per_lane == 0 ? 32 : std::size_t{kLanes} * bytes_per_lane;
}

/// For a 64-bit register that mov.b64 made of two 32-bit ones: the lanes whose lower (0) or upper (1) half was written.
/// nvcc makes such pairs with one undefined half and extracts the other one again. Only mov sets these words; other
/// instructions that write the register mark it as a whole.
inline Lanes& half_written(void* row, unsigned half) { return static_cast<Lanes*>(row)[-2 - static_cast<int>(half)]; }
inline Lanes half_written(const void* row, unsigned half) {
    return static_cast<const Lanes*>(row)[-2 - static_cast<int>(half)];
}

/// The lanes of a row that hold a written value.
inline Lanes& written(void* row) { return static_cast<Lanes*>(row)[-1]; }
inline Lanes written(const void* row) { return static_cast<const Lanes*>(row)[-1]; }

}  // namespace sim::ptx
