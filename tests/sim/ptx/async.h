// The copies of cp.async that have begun and for which no lane has waited yet. The instructions are in async.cpp.
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
    std::array<char, 16> data{};  ///< the source when the copy began; the rest is zeros
};

/// The copies of one lane in the order in which they began. The oldest groups[first_group] copies that are left make
/// the oldest group, and so on; copies after the last group are not committed.
struct AsyncCopies {
    std::vector<AsyncCopy> copies;
    /// Index of the oldest copy that is left, and the number of copies from there on that are in groups.
    std::size_t first = 0, committed = 0;
    std::vector<std::uint32_t> groups;
    std::size_t first_group = 0;

    std::size_t num_groups() const { return groups.size() - first_group; }
    std::size_t num_open() const { return copies.size() - first - committed; }
    bool idle() const { return copies.size() == first; }
    void commit();
    void forget();
};

/// Throws a Fault if one of the lanes has copies in flight.
void check_no_copies(Warp& warp, Lanes lanes);

}  // namespace sim::ptx
