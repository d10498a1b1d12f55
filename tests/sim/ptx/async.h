// Copies that cp.async has begun and nobody has waited for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/ptx/types.h"

namespace sim::ptx {

struct Warp;

struct AsyncCopy {
    std::uint32_t to = 0;  ///< offset in shared memory
    std::uint8_t bytes = 0;
    std::array<char, 16> data{};  ///< as it was when the copy began; the rest is zeros
};

/// Of one lane: copies in the order they began. The first `groups[0]` of those that are left make the oldest group, and
/// so on; what follows the last group is not committed.
struct AsyncCopies {
    std::vector<AsyncCopy> copies;
    std::size_t first = 0,
                committed = 0;  ///< of `copies`: the oldest that is left; how many from there on are in groups
    std::vector<std::uint32_t> groups;
    std::size_t first_group = 0;

    std::size_t num_groups() const { return groups.size() - first_group; }
    std::size_t num_open() const { return copies.size() - first - committed; }
    bool idle() const { return copies.size() == first; }
    void commit();
    void forget();
};

/// A Fault if one of the lanes has copies in flight.
void check_no_copies(Warp& warp, Lanes lanes);

}  // namespace sim::ptx
