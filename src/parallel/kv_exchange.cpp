// Two facts give the lists. First keys never decrease along a sequence, so the keys that a rank needs begin at the
// first key of its first token. And that token sees every key from there up to itself, so the rank needs all of them.
// Where the attention is computed follows from counting visible pairs; all ranks have all windows and count the same.
// A rank looks only at the ranks that it exchanges something with, and at the reach of every other rank.
#include "parallel/kv_exchange.h"

#include <algorithm>
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

/// The rank that owns `token`.
int owner_of(std::int64_t token, std::int64_t num_tokens, int num_ranks) {
    return static_cast<int>(((token + 1) * num_ranks - 1) / num_tokens);
}

/// All query heads as one class.
KvHeadClass all_heads(const Windows& windows, std::int64_t num_heads, std::int64_t num_kv_heads) {
    return class_of(windows, {0, num_kv_heads}, num_heads / num_kv_heads);
}

/// The first rank that owns keys which `reader` sees: the reader itself if it needs none of others or has no tokens.
int farthest_owner(const Windows& windows, const KvHeadClass& all, int reader, int num_ranks) {
    const Shard own = tokens_of(windows.num_tokens(), reader, num_ranks);
    return own.count ? owner_of(first_key(windows, all, own.begin), windows.num_tokens(), num_ranks) : reader;
}

/// Decides for the pairs (owner, reader) that are more than half of the ranks apart; the pairs that are farthest apart
/// are tried first.
std::vector<bool> pairs_computed_by_owner(const Windows& windows, int num_ranks, std::int64_t num_heads,
                                          std::int64_t num_kv_heads) {
    const std::int64_t tokens = windows.num_tokens(), group = num_heads / num_kv_heads;
    const KvHeadClass all = all_heads(windows, num_heads, num_kv_heads);
    std::vector<int> farthest;
    int reach = 0;
    for (int rank = 0; rank < num_ranks; ++rank) {
        farthest.push_back(farthest_owner(windows, all, rank, num_ranks));
        reach = std::max(reach, rank - farthest.back());
    }
    if (reach <= num_ranks / 2) return {};
    const auto work = [&](int reader, Shard keys) {
        return work_of(windows, {0, num_kv_heads}, group, tokens_of(tokens, reader, num_ranks), keys);
    };
    std::vector<std::int64_t> before;
    for (int rank = 0; rank < num_ranks; ++rank) before.push_back(work(rank, {0, tokens}));
    std::vector<std::int64_t> after = before;
    const auto ranks = static_cast<std::size_t>(num_ranks);
    std::vector<bool> given(ranks * ranks);
    for (int distance = reach; distance > num_ranks / 2; --distance)
        for (int reader = distance; reader < num_ranks; ++reader) {
            const int owner = reader - distance;
            if (owner < farthest[static_cast<std::size_t>(reader)]) continue;
            const std::int64_t moved = work(reader, tokens_of(tokens, owner, num_ranks));
            std::int64_t &of_owner = after[static_cast<std::size_t>(owner)],
                         &of_reader = after[static_cast<std::size_t>(reader)];
            if (moved == 0 || of_owner + moved >= of_reader) continue;
            of_owner += moved, of_reader -= moved;
            given[static_cast<std::size_t>(owner) * ranks + static_cast<std::size_t>(reader)] = true;
        }
    const bool gains = *std::max_element(after.begin(), after.end()) < *std::max_element(before.begin(), before.end());
    return gains ? given : std::vector<bool>{};
}

/// Whether no rank receives more than three quarters as many elements of keys and values as it owns.
bool receives_little(const Windows& windows, int num_ranks, const std::vector<KvHeadClass>& classes,
                     std::int64_t num_kv_heads) {
    for (int rank = 0; rank < num_ranks; ++rank) {
        const Shard own = tokens_of(windows.num_tokens(), rank, num_ranks);
        std::int64_t received = 0;  // in tokens x heads
        for (const KvHeadClass& one : classes)
            if (own.count) received += (own.begin - first_key(windows, one, own.begin)) * one.heads.count;
        if (4 * received > 3 * own.count * num_kv_heads) return false;
    }
    return true;
}

/// The number of the last round in which some rank receives something.
int num_rounds(const ExchangeRules& rules, const Windows& windows) {
    const KvHeadClass all = all_heads(windows, rules.num_heads, rules.num_kv_heads);
    int most = 0;
    for (int reader = 0; reader < rules.num_ranks; ++reader) {
        for (int owner = farthest_owner(windows, all, reader, rules.num_ranks); owner < reader; ++owner) {
            if (tokens_of(windows.num_tokens(), owner, rules.num_ranks).count == 0) continue;
            const bool given = rules.computed_by_owner(owner, reader);
            most = std::max(most, given ? rules.num_ranks - (reader - owner) : reader - owner);
            if (!given) break;  // nearer owners come in earlier rounds, or compute in earlier ones
        }
    }
    return most;
}

/// Adds the transfers from `owner` to `reader` to their round, if they belong to this part of a round's list: keys and
/// values, or queries.
void add_transfers(const ExchangeRules& rules, const Windows& windows, const std::vector<KvHeadClass>& classes,
                   int owner, int reader, bool of_queries, KvRounds& rounds) {
    if (rules.computed_by_owner(owner, reader) != of_queries) return;
    const int distance = reader - owner;
    for (KvTransfer& transfer : transfers_between(windows, classes, owner, reader, rules.num_ranks)) {
        if (of_queries) {
            const Shard own = tokens_of(windows.num_tokens(), reader, rules.num_ranks);
            const KvHeadClass heads = class_of(windows, transfer.heads, rules.num_heads / rules.num_kv_heads);
            transfer.queries = {own.begin, num_queries_that_see(windows, heads, own, transfer.tokens.end())};
        }
        // On the ring, `distance` places to the left are num_ranks - distance places to the right.
        rounds[static_cast<std::size_t>(of_queries ? rules.num_ranks - distance : distance) - 1].push_back(transfer);
    }
}

}  // namespace

std::int64_t num_queries_that_see(const Windows& windows, const KvHeadClass& of, Shard queries, std::int64_t end) {
    const auto count = [&](HeadKind kind) {
        const std::int64_t first = windows.host[kind == HeadKind::shifted].first_token_at(end);
        return std::clamp<std::int64_t>(first - queries.begin, 0, queries.count);
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

ExchangeRules exchange_rules(const Windows& pattern, int num_ranks, std::int64_t num_heads, std::int64_t num_kv_heads) {
    ExchangeRules rules{num_ranks, num_heads, num_kv_heads, {}, false};
    const std::vector<KvHeadClass> classes = kv_head_classes(pattern, num_heads, num_kv_heads);
    rules.at_owner = pairs_computed_by_owner(pattern, num_ranks, num_heads, num_kv_heads);
    rules.stays_until_backward = rules.at_owner.empty() && receives_little(pattern, num_ranks, classes, num_kv_heads);
    return rules;
}

KvRounds kv_transfers(const ExchangeRules& rules, const Windows& windows, int rank) {
    const std::vector<KvHeadClass> classes = kv_head_classes(windows, rules.num_heads, rules.num_kv_heads);
    const KvHeadClass all = all_heads(windows, rules.num_heads, rules.num_kv_heads);
    KvRounds rounds(static_cast<std::size_t>(num_rounds(rules, windows)));
    const Shard own = tokens_of(windows.num_tokens(), rank, rules.num_ranks);
    for (const bool of_queries : {false, true}) {
        for (int owner = rank - 1; owner >= farthest_owner(windows, all, rank, rules.num_ranks); --owner)
            add_transfers(rules, windows, classes, owner, rank, of_queries, rounds);
        for (int reader = rank + 1; reader < rules.num_ranks; ++reader) {
            const Shard readers = tokens_of(windows.num_tokens(), reader, rules.num_ranks);
            if (readers.count && first_key(windows, all, readers.begin) >= own.end()) break;
            add_transfers(rules, windows, classes, rank, reader, of_queries, rounds);
        }
    }
    return rounds;
}

RoundEffect effect_of(const std::vector<KvTransfer>& round, const ExchangeRules& rules, const Windows& windows,
                      int rank) {
    RoundEffect effect;
    for (const KvTransfer& t : round) {
        const Shard own = tokens_of(windows.num_tokens(), t.to, rules.num_ranks);
        const auto pairs = [&](HeadKind kind) {
            return visible_pairs(windows, kind, own.begin, own.count, t.tokens.begin, t.tokens.count);
        };
        const auto rows = [&](bool plain) {
            return num_queries_that_see(windows, {t.heads, plain, !plain}, own, t.tokens.end());
        };
        effect.push_back({t.from == rank, t.heads.begin, t.heads.count, t.tokens.count, t.queries.count,
                          pairs(HeadKind::plain), pairs(HeadKind::shifted), rows(true), rows(false)});
    }
    return effect;
}

std::vector<std::int64_t> rounds_alike_before(const KvRounds& rounds, const ExchangeRules& rules,
                                              const Windows& windows, int rank) {
    std::vector<std::int64_t> alike;
    RoundEffect before;
    for (const auto& round : rounds) {
        RoundEffect now = effect_of(round, rules, windows, rank);
        alike.push_back(!alike.empty() && now == before ? alike.back() + 1 : 0);
        before = std::move(now);
    }
    return alike;
}

}  // namespace longlora::parallel
