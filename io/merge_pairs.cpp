// A priority queue of possible merges over a doubly linked list of symbols. An entry that an earlier merge has
// outdated is recognised, and skipped, when it reaches the top.
#include "io/merge_pairs.h"

#include <algorithm>
#include <queue>

namespace longlora {

namespace {

struct Candidate {
    std::int32_t rank;
    std::int64_t left, right;  // positions of the symbols
    std::int32_t left_id, right_id, result;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
};

}  // namespace

void merge_pairs(std::vector<std::int32_t>& ids, const MergeTable& merges) {
    const std::int64_t n = ids.size();
    if (n < 2) return;
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

}  // namespace longlora
