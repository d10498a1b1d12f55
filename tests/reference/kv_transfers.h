// What the ranks of a sequence send each other for attention, by loops over all ranks, tokens and heads. Slow: the time
// grows with ranks^2 and tokens x ranks. src/parallel/kv_exchange.h has the words and the rules.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

namespace longlora::reference {

struct KvProblem {
    std::vector<std::int32_t> first_key[2];  ///< per token, of plain and of shifted heads
    std::int64_t num_plain_heads = 0, num_heads = 1, num_kv_heads = 1;
    int num_ranks = 1;

    std::int64_t num_tokens() const { return static_cast<std::int64_t>(first_key[0].size()); }
    std::int64_t begin_of(int rank) const { return num_tokens() * rank / num_ranks; }
    std::int64_t first(std::int64_t head, std::int64_t token) const {
        return first_key[head >= num_plain_heads][static_cast<std::size_t>(token)];
    }
};

/// The keys of tokens [begin, end) and K/V heads [head_begin, head_end) of rank `from`, for rank `to`; queries of `to`
/// travel if there are any.
struct KvTransfer {
    int from, to;
    std::int64_t begin, end, head_begin, head_end, num_queries;
    bool operator==(const KvTransfer&) const = default;
};
using KvRounds = std::vector<std::vector<KvTransfer>>;

/// The visible pairs of queries of `reader` and keys of `owner`, in all heads.
inline std::int64_t pairs_of_ranks(const KvProblem& p, int reader, int owner) {
    std::int64_t pairs = 0;
    for (std::int64_t head = 0; head < p.num_heads; ++head)
        for (std::int64_t t = p.begin_of(reader); t < p.begin_of(reader + 1); ++t)
            pairs += std::max<std::int64_t>(
                0, std::min(t + 1, p.begin_of(owner + 1)) - std::max(p.first(head, t), p.begin_of(owner)));
    return pairs;
}

/// The pairs (owner, reader) whose attention the owner of the keys computes.
inline std::set<std::pair<int, int>> pairs_at_owner(const KvProblem& p) {
    std::vector<std::int64_t> before(static_cast<std::size_t>(p.num_ranks), 0);
    for (int reader = 0; reader < p.num_ranks; ++reader)
        for (int owner = 0; owner <= reader; ++owner)
            before[static_cast<std::size_t>(reader)] += pairs_of_ranks(p, reader, owner);
    std::vector<std::int64_t> after = before;
    std::set<std::pair<int, int>> given;
    for (int distance = p.num_ranks - 1; distance > p.num_ranks / 2; --distance)
        for (int reader = distance; reader < p.num_ranks; ++reader) {
            const int owner = reader - distance;
            const std::int64_t moved = pairs_of_ranks(p, reader, owner);
            if (moved == 0 || after[static_cast<std::size_t>(owner)] + moved >= after[static_cast<std::size_t>(reader)])
                continue;
            after[static_cast<std::size_t>(owner)] += moved, after[static_cast<std::size_t>(reader)] -= moved;
            given.insert({owner, reader});
        }
    const bool gains = *std::max_element(after.begin(), after.end()) < *std::max_element(before.begin(), before.end());
    return gains ? given : std::set<std::pair<int, int>>{};
}

/// The first key of rank `from` that any query of rank `to` sees in a query head of this K/V head; the end of the keys
/// of `from` if there is none.
inline std::int64_t first_needed(const KvProblem& p, int from, int to, std::int64_t kv_head) {
    const std::int64_t group = p.num_heads / p.num_kv_heads;
    std::int64_t begin = p.begin_of(from + 1);
    for (std::int64_t t = p.begin_of(to); t < p.begin_of(to + 1); ++t)
        for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
            begin = std::min(begin, p.first(head, t));
    return std::max(begin, p.begin_of(from));
}

inline std::int64_t queries_that_see(const KvProblem& p, const KvTransfer& t) {
    const std::int64_t group = p.num_heads / p.num_kv_heads;
    std::int64_t count = 0;
    for (std::int64_t token = p.begin_of(t.to); token < p.begin_of(t.to + 1); ++token) {
        bool sees = false;
        for (std::int64_t head = t.head_begin * group; head < t.head_end * group; ++head)
            sees = sees || p.first(head, token) < t.end;
        count += sees;
    }
    return count;
}

/// Where heads of other kinds begin: heads that serve plain, both and shifted query heads may need the same tokens and
/// are one transfer then.
inline std::vector<KvTransfer> between(const KvProblem& p, int from, int to) {
    std::vector<KvTransfer> out;
    for (std::int64_t head = 0; head < p.num_kv_heads; ++head) {
        const std::int64_t begin = first_needed(p, from, to, head), end = p.begin_of(from + 1);
        if (begin >= end) continue;
        const bool joins = !out.empty() && out.back().begin == begin && out.back().head_end == head;
        if (joins) ++out.back().head_end;
        else out.push_back({from, to, begin, end, head, head + 1, 0});
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const KvTransfer& a, const KvTransfer& b) { return a.begin < b.begin; });
    return out;
}

/// All rounds with the transfers of all ranks. pattern: the same problem without documents.
inline KvRounds kv_rounds(const KvProblem& p, const KvProblem& pattern) {
    const auto given = pairs_at_owner(pattern);
    KvRounds rounds(static_cast<std::size_t>(p.num_ranks));
    for (const bool of_queries : {false, true})
        for (int to = 0; to < p.num_ranks; ++to)
            for (int from = to - 1; from >= 0; --from)
                for (KvTransfer transfer : between(p, from, to)) {
                    if (given.contains({from, to}) != of_queries) continue;
                    if (of_queries) transfer.num_queries = queries_that_see(p, transfer);
                    const int round = of_queries ? p.num_ranks - (to - from) : to - from;
                    rounds[static_cast<std::size_t>(round) - 1].push_back(transfer);
                }
    while (!rounds.empty() && rounds.back().empty()) rounds.pop_back();
    return rounds;
}

/// Whether what arrives stays until backward.
inline bool stays_until_backward(const KvProblem& pattern) {
    std::vector<std::int64_t> received(static_cast<std::size_t>(pattern.num_ranks), 0);
    for (const auto& round : kv_rounds(pattern, pattern))
        for (const KvTransfer& t : round) {
            if (t.num_queries > 0) return false;
            received[static_cast<std::size_t>(t.to)] += (t.end - t.begin) * (t.head_end - t.head_begin);
        }
    for (int rank = 0; rank < pattern.num_ranks; ++rank) {
        const std::int64_t own = (pattern.begin_of(rank + 1) - pattern.begin_of(rank)) * pattern.num_kv_heads;
        if (4 * received[static_cast<std::size_t>(rank)] > 3 * own) return false;
    }
    return true;
}

}  // namespace longlora::reference
