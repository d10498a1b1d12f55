// Two facts give the lists. First keys never decrease along a sequence, so the keys that a rank needs begin at the
// first key of its first token. And that token sees every key from there up to itself, so the rank needs all of them.
// Where the attention is computed follows from counting visible pairs; all ranks have all windows and count the same.
#include "parallel/kv_exchange.h"

#include <algorithm>
#include <set>
#include <utility>

namespace longlora::parallel {
namespace {

/// The earliest key that query `token` sees in any query head of the class.
std::int64_t first_key(const Windows& windows, const KvHeadClass& of, std::int64_t token) {
    std::int64_t first = token;
    if (of.plain) first = std::min<std::int64_t>(first, windows.host[0][token]);
    if (of.shifted) first = std::min<std::int64_t>(first, windows.host[1][token]);
    return first;
}

/// What rank `to` needs from rank `from`. Consecutive classes that need the same tokens are joined.
std::vector<KvTransfer> transfers_between(const Windows& windows, const std::vector<KvHeadClass>& classes, int from,
                                          int to, int num_ranks) {
    const Shard owned = tokens_of(windows.num_tokens(), from, num_ranks),
                own = tokens_of(windows.num_tokens(), to, num_ranks);
    std::vector<KvTransfer> out;
    if (own.count == 0) return out;
    for (const KvHeadClass& one : classes) {
        const std::int64_t begin = std::max(first_key(windows, one, own.begin), owned.begin);
        if (begin >= owned.end()) continue;
        const bool joins =
            !out.empty() && out.back().tokens.begin == begin && out.back().heads.end() == one.heads.begin;
        if (joins) out.back().heads.count += one.heads.count;
        else out.push_back({from, to, {begin, owned.end() - begin}, one.heads});
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const KvTransfer& a, const KvTransfer& b) { return a.tokens.begin < b.tokens.begin; });
    return out;
}

using Rounds = std::vector<std::vector<KvTransfer>>;

/// The heads as a class; `group` query heads to a K/V head.
KvHeadClass class_of(const Windows& windows, Shard heads, std::int64_t group) {
    return {heads, heads.begin * group<windows.num_plain_heads, heads.end() * group> windows.num_plain_heads};
}

/// Visible (query, key) pairs in all query heads of these K/V heads.
std::int64_t work_of(const Windows& windows, Shard heads, std::int64_t group, Shard queries, Shard keys) {
    const std::int64_t plain = std::clamp<std::int64_t>(windows.num_plain_heads - heads.begin * group, 0,
                                                        heads.count * group),
                       shifted = heads.count * group - plain;
    const auto pairs = [&](HeadKind kind) {
        return visible_pairs(windows, kind, queries.begin, queries.count, keys.begin, keys.count);
    };
    return (plain ? plain * pairs(HeadKind::plain) : 0) + (shifted ? shifted * pairs(HeadKind::shifted) : 0);
}

/// rounds[d-1]: what ranks need from the rank d places to their left; keys and values are sent, never queries.
Rounds by_distance(const Windows& windows, int num_ranks, std::int64_t num_heads, std::int64_t num_kv_heads) {
    const std::vector<KvHeadClass> classes = kv_head_classes(windows, num_heads, num_kv_heads);
    Rounds rounds;
    for (int distance = 1; distance < num_ranks; ++distance) {
        std::vector<KvTransfer> round;
        for (int to = distance; to < num_ranks; ++to)
            for (const KvTransfer& transfer : transfers_between(windows, classes, to - distance, to, num_ranks))
                round.push_back(transfer);
        rounds.push_back(std::move(round));
    }
    while (!rounds.empty() && rounds.back().empty()) rounds.pop_back();
    return rounds;
}

/// Pairs (owner, reader), more than half of the ranks apart, for which the owner computes, because that takes work
/// from the rank that has more. The pairs that are farthest apart are tried first.
std::set<std::pair<int, int>> pairs_computed_by_owner(const Windows& windows, int num_ranks, std::int64_t num_heads,
                                                      std::int64_t num_kv_heads) {
    const std::int64_t tokens = windows.num_tokens(), group = num_heads / num_kv_heads;
    const auto work = [&](int reader, Shard keys) {
        return work_of(windows, {0, num_kv_heads}, group, tokens_of(tokens, reader, num_ranks), keys);
    };
    std::vector<std::int64_t> before;
    for (int rank = 0; rank < num_ranks; ++rank) before.push_back(work(rank, {0, tokens}));
    std::vector<std::int64_t> after = before;
    std::set<std::pair<int, int>> given;
    for (int distance = num_ranks - 1; distance > num_ranks / 2; --distance)
        for (int reader = distance; reader < num_ranks; ++reader) {
            const int owner = reader - distance;
            const std::int64_t moved = work(reader, tokens_of(tokens, owner, num_ranks));
            std::int64_t &of_owner = after[owner], &of_reader = after[reader];
            if (moved == 0 || of_owner + moved >= of_reader) continue;
            of_owner += moved, of_reader -= moved;
            given.insert({owner, reader});
        }
    const bool gains = *std::max_element(after.begin(), after.end()) < *std::max_element(before.begin(), before.end());
    return gains ? given : std::set<std::pair<int, int>>{};
}

}  // namespace

std::int64_t num_queries_that_see(const Windows& windows, const KvHeadClass& of, Shard queries, std::int64_t end) {
    const auto count = [&](HeadKind kind) {
        const auto first_keys = windows.host[kind == HeadKind::shifted].subspan(queries.begin, queries.count);
        return std::lower_bound(first_keys.begin(), first_keys.end(), end) - first_keys.begin();
    };
    return std::max(of.plain ? count(HeadKind::plain) : 0, of.shifted ? count(HeadKind::shifted) : 0);
}

std::vector<KvHeadClass> kv_head_classes(const Windows& windows, std::int64_t num_heads, std::int64_t num_kv_heads) {
    ensure(num_kv_heads > 0 && num_heads % num_kv_heads == 0, "query heads are a multiple of key/value heads");
    const std::int64_t group = num_heads / num_kv_heads, plain_end = windows.num_plain_heads / group,
                       shifted_begin = (windows.num_plain_heads + group - 1) / group;
    std::vector<KvHeadClass> classes;
    for (const KvHeadClass& one : {KvHeadClass{{0, plain_end}, true, false},
                                   {{plain_end, shifted_begin - plain_end}, true, true},
                                   {{shifted_begin, num_kv_heads - shifted_begin}, false, true}})
        if (one.heads.count > 0) classes.push_back(one);
    return classes;
}

std::vector<std::vector<KvTransfer>> kv_transfers(const Windows& windows, const Windows& pattern, int num_ranks,
                                                  std::int64_t num_heads, std::int64_t num_kv_heads) {
    Rounds rounds = by_distance(windows, num_ranks, num_heads, num_kv_heads);
    const std::size_t half = static_cast<std::size_t>(num_ranks) / 2;
    if (rounds.size() <= half) return rounds;
    const auto given = pairs_computed_by_owner(pattern, num_ranks, num_heads, num_kv_heads);
    for (std::size_t distance = half + 1; distance <= rounds.size(); ++distance) {
        std::vector<KvTransfer> stay;
        // On the ring, `distance` places to the left are num_ranks - distance places to the right.
        auto& on_the_ring = rounds[static_cast<std::size_t>(num_ranks) - distance - 1];
        for (KvTransfer& transfer : rounds[distance - 1]) {
            if (!given.contains({transfer.from, transfer.to})) {
                stay.push_back(transfer);
                continue;
            }
            const Shard own = tokens_of(windows.num_tokens(), transfer.to, num_ranks);
            transfer.queries = {
                own.begin, num_queries_that_see(windows, class_of(windows, transfer.heads, num_heads / num_kv_heads),
                                                own, transfer.tokens.end())};
            on_the_ring.push_back(transfer);
        }
        rounds[distance - 1] = std::move(stay);
    }
    while (!rounds.empty() && rounds.back().empty()) rounds.pop_back();
    return rounds;
}

bool stays_until_backward(const std::vector<std::vector<KvTransfer>>& rounds, std::int64_t num_tokens, int num_ranks,
                          std::int64_t num_kv_heads) {
    std::vector<std::int64_t> received(num_ranks, 0);  // in tokens x heads
    for (const auto& round : rounds)
        for (const KvTransfer& transfer : round) {
            if (transfer.at_owner()) return false;
            received[transfer.to] += transfer.tokens.count * transfer.heads.count;
        }
    for (int rank = 0; rank < num_ranks; ++rank)
        if (4 * received[rank] > 3 * tokens_of(num_tokens, rank, num_ranks).count * num_kv_heads) return false;
    return true;
}

}  // namespace longlora::parallel
