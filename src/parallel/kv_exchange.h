// kv_exchange: which keys and values the ranks of one sequence need from each other, and on which rank the attention
// over them is computed. Both follow from the windows alone, for any pattern and any number of ranks. This file only
// makes lists; src/model/sequence_attention.h moves and computes.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/windows.h"
#include "parallel/mesh.h"

namespace longlora::parallel {

/// Tokens (global) of K/V heads that rank `from` owns and rank `to` needs. Without `queries`, the keys and values go
/// to `to`; in backward dK and dV come back. With `queries`, the owner of the keys computes the attention: these
/// queries (global tokens, all queries of `to` that see the keys) go to `from`, in backward together with what their
/// gradients need, and partial results come back (dQ in backward).
struct KvTransfer {
    int from = 0, to = 0;
    Shard tokens, heads;
    Shard queries{};
    bool at_owner() const { return queries.count > 0; }
    bool operator==(const KvTransfer&) const = default;
};

/// Tokens that sequence rank r of S owns in a sequence of N tokens: [r*N/S, (r+1)*N/S).
constexpr Shard tokens_of(std::int64_t num_tokens, int rank, int ranks) {
    return even_share_of(num_tokens, rank, ranks);
}

/// Consecutive K/V heads whose query heads are of the same kinds.
struct KvHeadClass {
    Shard heads;
    bool plain = false, shifted = false;
};

/// The classes of all K/V heads, at most three: heads that serve plain query heads, both kinds (if one group of query
/// heads has both), and shifted query heads.
std::vector<KvHeadClass> kv_head_classes(const Windows& windows, std::int64_t num_heads, std::int64_t num_kv_heads);

/// How many of `queries` see keys before token `end` in any query head of the class. They are the first ones.
std::int64_t num_queries_that_see(const Windows& windows, const KvHeadClass& of, Shard queries, std::int64_t end);

/// What the pattern, the windows without documents, decides for all sequences and ranks.
struct ExchangeRules {
    int num_ranks = 1;
    std::int64_t num_heads = 1, num_kv_heads = 1;
    /// Element owner * num_ranks + reader: whether the owner of the keys computes the attention of the reader's queries
    /// over them. Empty if this holds for no pair.
    std::vector<bool> at_owner;
    /// Whether received keys and values stay from forward until backward (the halo of S2) or are sent again (dense).
    /// They stay if no attention is computed by the owner of the keys, and no rank receives more than three quarters as
    /// many elements of keys and values as it owns.
    bool stays_until_backward = true;

    bool computed_by_owner(int owner, int reader) const {
        return !at_owner.empty() && at_owner[static_cast<std::size_t>(owner) * static_cast<std::size_t>(num_ranks) +
                                             static_cast<std::size_t>(reader)];
    }
};

/// Causal attention gives later ranks more work: with dense attention rank r has r + 1/2 units, where a unit is one
/// shard of queries against one shard of keys. So if a rank needs keys from an owner more than S/2 places to its left,
/// the owner, which has less work, computes the attention over them. This is done only for pairs of ranks where it
/// moves work (visible pairs x heads) from the rank that has more, and only if the highest work of all ranks becomes
/// lower. Dense attention then takes S/2 units per rank for odd S, and S/2 - 1/2 or S/2 + 1/2 for even S. The schedule
/// is that of DISTFLASHATTN (Li et al. 2023). S2 on shards of whole groups reaches one neighbour only, so nothing
/// changes there.
///
/// Takes time proportional to the ranks, and to their square if keys are needed from more than S/2 places away; the
/// number of tokens does not matter.
ExchangeRules exchange_rules(const Windows& pattern, int num_ranks, std::int64_t num_heads, std::int64_t num_kv_heads);

using KvRounds = std::vector<std::vector<KvTransfer>>;

/// Returns the rounds of `rank`: rounds[j-1] has what it sends and receives while every rank r receives from the rank j
/// places to its left on a ring of S ranks: keys and values of rank r - j, or queries of rank r - j + S. A round lists
/// keys and values first, then queries, each ordered by `to`, then by tokens; so two ranks list their common transfers
/// in the same order. All ranks have the same number of rounds, and in the last one some rank receives something. A
/// K/V head that serves plain and shifted query heads is needed from the earlier of their first keys.
///
/// Sending n queries takes as many bytes as sending n keys and values if there are as many query heads as K/V heads,
/// and more with grouped-query attention; the work per byte still grows with n alone. `windows` see no more than the
/// pattern of `rules`, so they never cost more than what is planned for it.
KvRounds kv_transfers(const ExchangeRules& rules, const Windows& windows, int rank);

/// All numbers of a round that decide what a rank does in it, and which memory that takes: for each transfer its
/// direction, its sizes and its numbers of visible pairs. Other ranks and places of tokens do not count.
using RoundEffect = std::vector<std::array<std::int64_t, 9>>;
RoundEffect effect_of(const std::vector<KvTransfer>& round, const ExchangeRules& rules, const Windows& windows,
                      int rank);
/// For each round of `rank`, how many of the rounds right before it make the rank do the same.
std::vector<std::int64_t> rounds_alike_before(const KvRounds& rounds, const ExchangeRules& rules,
                                              const Windows& windows, int rank);

}  // namespace longlora::parallel
