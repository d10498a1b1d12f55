// Byte pair encoding of one word, given as token ids: it always applies the merge of the lowest rank, and of several
// the leftmost one. It knows neither texts nor files (io/bpe_model.h does).
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace longlora {

struct Merge {
    std::int32_t rank = 0;
    std::int32_t result = 0;
};

/// The key of two neighbouring tokens.
constexpr std::uint64_t merge_key(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

using MergeTable = std::unordered_map<std::uint64_t, Merge>;

/// Merges `ids` in place until the table has no merge for any two neighbours. O(n log n).
void merge_pairs(std::vector<std::int32_t>& ids, const MergeTable& merges);

}  // namespace longlora
