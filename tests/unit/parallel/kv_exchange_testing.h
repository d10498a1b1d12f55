// Windows of many kinds for the tests of exchange lists. No tests here.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "core/random.h"
#include "parallel/kv_exchange.h"

namespace longlora::parallel::exchange_testing {

/// Windows without a device tensor, and the arrays to which they point.
struct Keys {
    std::vector<std::int32_t> first[2];
    std::int64_t num_plain_heads = 0;
    Windows windows() const {
        Windows w;
        for (int kind = 0; kind < 2; ++kind) w.host[kind] = first[kind];
        w.num_plain_heads = num_plain_heads;
        return w;
    }
};

/// The transfers of all ranks: each rank's lists, of which the ranks that receive give their part.
inline KvRounds all_transfers(const Keys& keys, const Keys& pattern, int ranks, std::int64_t heads,
                              std::int64_t kv_heads) {
    const ExchangeRules rules = exchange_rules(pattern.windows(), ranks, heads, kv_heads);
    const Windows windows = keys.windows();
    std::vector<KvRounds> of_rank;
    for (int rank = 0; rank < ranks; ++rank) of_rank.push_back(kv_transfers(rules, windows, rank));
    KvRounds all(of_rank[0].size());
    for (std::size_t round = 0; round < all.size(); ++round)
        for (const bool of_queries : {false, true})
            for (int rank = 0; rank < ranks; ++rank)
                for (const KvTransfer& transfer : of_rank[static_cast<std::size_t>(rank)].at(round))
                    if (transfer.to == rank && transfer.at_owner() == of_queries) all[round].push_back(transfer);
    return all;
}
/// The transfers of windows without documents.
inline KvRounds transfers_of(const Keys& keys, int ranks, std::int64_t heads, std::int64_t kv_heads) {
    return all_transfers(keys, keys, ranks, heads, kv_heads);
}
inline bool stays(const Keys& keys, int ranks, std::int64_t heads, std::int64_t kv_heads) {
    return exchange_rules(keys.windows(), ranks, heads, kv_heads).stays_until_backward;
}

template <class FirstKey> Keys make_keys(std::int64_t tokens, std::int64_t num_plain_heads, FirstKey&& first_key) {
    Keys keys;
    keys.num_plain_heads = num_plain_heads;
    for (int kind = 0; kind < 2; ++kind)
        for (std::int64_t t = 0; t < tokens; ++t)
            keys.first[kind].push_back(static_cast<std::int32_t>(first_key(kind, t)));
    return keys;
}

inline Keys shifted(std::int64_t tokens, std::int64_t group, std::int64_t num_plain_heads) {
    return make_keys(tokens, num_plain_heads, [&](int kind, std::int64_t t) {
        const std::int64_t half = group / 2;
        return kind == 0 ? t / group * group : t < half ? 0 : (t - half) / group * group + half;
    });
}
inline Keys dense(std::int64_t tokens, std::int64_t num_heads) {
    return make_keys(tokens, num_heads, [](int, std::int64_t) { return 0; });
}
inline Keys sliding(std::int64_t tokens, std::int64_t window, std::int64_t num_heads) {
    return make_keys(tokens, num_heads, [&](int, std::int64_t t) { return std::max<std::int64_t>(0, t - window + 1); });
}
/// Raises the first keys so that no query sees a token before its own document; documents begin at random.
inline void add_documents(Keys& keys, std::uint64_t seed) {
    const auto tokens = static_cast<std::int64_t>(keys.first[0].size());
    std::int32_t begin = 0;
    for (std::int64_t t = 0; t < tokens; ++t) {
        if (random_below(7, seed, 3, static_cast<std::uint64_t>(t)) == 0) begin = static_cast<std::int32_t>(t);
        for (auto& first : keys.first)
            first[static_cast<std::size_t>(t)] = std::max(first[static_cast<std::size_t>(t)], begin);
    }
}
/// First keys that never fall and never pass their query, but are otherwise random.
inline Keys random_walk(std::int64_t tokens, std::int64_t num_plain_heads, std::uint64_t seed) {
    std::int64_t at[2] = {0, 0};
    return make_keys(tokens, num_plain_heads, [&](int kind, std::int64_t t) {
        const auto index = static_cast<std::uint64_t>(2 * t + kind);
        if (random_below(3, seed, 1, index) == 0)
            at[kind] += static_cast<std::int64_t>(random_below(9, seed, 2, index));
        return at[kind] = std::min(at[kind], t);
    });
}

constexpr std::int64_t kHeads[][2] = {{9, 3}, {4, 4}, {3, 1}, {8, 2}, {1, 1}, {6, 2}};

}  // namespace longlora::parallel::exchange_testing
