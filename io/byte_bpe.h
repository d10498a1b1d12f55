// Byte pair encoding of one word over token ids: always the merge of lowest rank, of equal ones the leftmost. No texts,
// no files.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace longlora {

struct Merge {
    std::int32_t rank = 0;
    std::int32_t result = 0;
};

/// Key of a pair of neighbours.
constexpr std::uint64_t merge_key(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

using MergeTable = std::unordered_map<std::uint64_t, Merge>;

/// Merges `ids` in place until no pair is in the table; O(n log n).
void merge_pairs(std::vector<std::int32_t>& ids, const MergeTable& merges);

}  // namespace longlora
