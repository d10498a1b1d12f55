// The lists follow from two facts: first keys never decrease along a sequence, so what a rank lacks begins at the first key of its first token;
// and nothing lies between that and its own tokens that its first token would not see.
#include "dist/kv_exchange.h"

#include <algorithm>
#include <tuple>

namespace longlora::dist {
namespace {

/// The earliest key that query `token` sees in any query head of the class.
std::int64_t first_key(const Windows& windows, const KvHeadClass& of, std::int64_t token) {
    std::int64_t first = token;
    if (of.plain) first = std::min<std::int64_t>(first, windows.host[0][static_cast<std::size_t>(token)]);
    if (of.shifted) first = std::min<std::int64_t>(first, windows.host[1][static_cast<std::size_t>(token)]);
    return first;
}

/// What rank `to` needs of rank `from`; neighbouring classes that need the same tokens go together.
std::vector<KvTransfer> transfers_between(const Windows& windows, const std::vector<KvHeadClass>& classes, int from, int to, int num_ranks) {
    const Shard owned = tokens_of(windows.num_tokens(), from, num_ranks), own = tokens_of(windows.num_tokens(), to, num_ranks);
    std::vector<KvTransfer> out;
    if (own.count == 0) return out;
    for (const KvHeadClass& one : classes) {
        const std::int64_t begin = std::max(first_key(windows, one, own.begin), owned.begin);
        if (begin >= owned.end()) continue;
        const bool joins = !out.empty() && out.back().tokens.begin == begin && out.back().heads.end() == one.heads.begin;
        if (joins) out.back().heads.count += one.heads.count;
        else out.push_back({from, to, {begin, owned.end() - begin}, one.heads});
    }
    std::stable_sort(out.begin(), out.end(), [](const KvTransfer& a, const KvTransfer& b) { return a.tokens.begin < b.tokens.begin; });
    return out;
}

}  // namespace

std::vector<KvHeadClass> kv_head_classes(const Windows& windows, std::int64_t num_heads, std::int64_t num_kv_heads) {
    ensure(num_kv_heads > 0 && num_heads % num_kv_heads == 0, "query heads are a multiple of key/value heads");
    const std::int64_t group = num_heads / num_kv_heads, plain_end = windows.num_plain_heads / group, shifted_begin = (windows.num_plain_heads + group - 1) / group;
    std::vector<KvHeadClass> classes;
    for (const KvHeadClass& one : {KvHeadClass{{0, plain_end}, true, false}, {{plain_end, shifted_begin - plain_end}, true, true}, {{shifted_begin, num_kv_heads - shifted_begin}, false, true}})
        if (one.heads.count > 0) classes.push_back(one);
    return classes;
}

std::vector<std::vector<KvTransfer>> kv_transfers(const Windows& windows, int num_ranks, std::int64_t num_heads, std::int64_t num_kv_heads) {
    const std::vector<KvHeadClass> classes = kv_head_classes(windows, num_heads, num_kv_heads);
    std::vector<std::vector<KvTransfer>> rounds;
    for (int distance = 1; distance < num_ranks; ++distance) {
        std::vector<KvTransfer> round;
        for (int to = distance; to < num_ranks; ++to)
            for (const KvTransfer& transfer : transfers_between(windows, classes, to - distance, to, num_ranks)) round.push_back(transfer);
        rounds.push_back(std::move(round));
    }
    while (!rounds.empty() && rounds.back().empty()) rounds.pop_back();
    return rounds;
}

bool stays_until_backward(const std::vector<std::vector<KvTransfer>>& rounds, std::int64_t num_tokens, int num_ranks, std::int64_t num_kv_heads) {
    std::vector<std::int64_t> received(static_cast<std::size_t>(num_ranks), 0);   // in tokens x heads
    for (const auto& round : rounds)
        for (const KvTransfer& transfer : round) received[static_cast<std::size_t>(transfer.to)] += transfer.tokens.count * transfer.heads.count;
    for (int rank = 0; rank < num_ranks; ++rank)
        if (4 * received[static_cast<std::size_t>(rank)] > 3 * tokens_of(num_tokens, rank, num_ranks).count * num_kv_heads) return false;
    return true;
}

}  // namespace longlora::dist
