// Short words: the ranks of all neighbours in an array, searched before each merge. Long ones: a priority queue of
// possible merges over a doubly linked list of symbols. An entry that an earlier merge has outdated is recognised, and
// skipped, when it reaches the top.
#include "io/merge_pairs.h"

#include <algorithm>
#include <array>
#include <limits>
#include <queue>

namespace longlora {

namespace {

struct Candidate {
    std::int32_t rank;
    std::int64_t left, right;  // positions of the symbols
    std::int32_t left_id, right_id, result;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
};

constexpr std::size_t kMostShort = 32;  // symbols
constexpr Merge kNoMerge{std::numeric_limits<std::int32_t>::max(), -1};

Merge merge_of(std::int32_t left, std::int32_t right, const MergeTable& merges) {
    const auto found = merges.find(merge_key(left, right));
    return found == merges.end() ? kNoMerge : found->second;
}

void merge_short(std::vector<std::int32_t>& ids, const MergeTable& merges) {
    std::array<Merge, kMostShort> with_next;  // of each symbol and the next one
    std::size_t n = ids.size();
    for (std::size_t i = 0; i + 1 < n; ++i) with_next[i] = merge_of(ids[i], ids[i + 1], merges);
    while (n > 1) {
        const auto* end = with_next.data() + n - 1;
        const auto* best = std::min_element(static_cast<const Merge*>(with_next.data()), end,
                                            [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
        if (best->rank == kNoMerge.rank) break;
        const auto at = static_cast<std::size_t>(best - with_next.data());
        ids[at] = best->result;
        std::move(ids.begin() + static_cast<std::ptrdiff_t>(at) + 2, ids.begin() + static_cast<std::ptrdiff_t>(n),
                  ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
        std::move(with_next.begin() + at + 1, with_next.begin() + n - 1, with_next.begin() + at);
        --n;
        if (at > 0) with_next[at - 1] = merge_of(ids[at - 1], ids[at], merges);
        if (at + 1 < n) with_next[at] = merge_of(ids[at], ids[at + 1], merges);
    }
    ids.resize(n);
}

void merge_long(std::vector<std::int32_t>& ids, const MergeTable& merges) {
    const std::int64_t n = ids.size();
    std::vector<std::int64_t> before(ids.size()), after(ids.size());
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto id_at = [&](std::int64_t i) -> std::int32_t& { return ids[i]; };
    const auto offer = [&](std::int64_t left, std::int64_t right) {
        if (left < 0 || right >= n) return;
        const auto found = merges.find(merge_key(id_at(left), id_at(right)));
        if (found != merges.end())
            queue.push({found->second.rank, left, right, id_at(left), id_at(right), found->second.result});
    };
    for (std::int64_t i = 0; i < n; ++i) before[i] = i - 1, after[i] = i + 1;
    for (std::int64_t i = 0; i + 1 < n; ++i) offer(i, i + 1);
    while (!queue.empty()) {
        const Candidate best = queue.top();
        queue.pop();
        const bool current =
            id_at(best.left) == best.left_id && id_at(best.right) == best.right_id && after[best.left] == best.right;
        if (!current) continue;
        const std::int64_t next = after[best.right];
        id_at(best.left) = best.result;
        id_at(best.right) = -1;  // merged into its left neighbour
        after[best.left] = next;
        if (next < n) before[next] = best.left;
        offer(before[best.left], best.left);
        offer(best.left, next);
    }
    ids.erase(std::remove(ids.begin(), ids.end(), -1), ids.end());
}

}  // namespace

void merge_pairs(std::vector<std::int32_t>& ids, const MergeTable& merges) {
    if (ids.size() > kMostShort) merge_long(ids, merges);
    else if (ids.size() > 1) merge_short(ids, merges);
}

}  // namespace longlora
