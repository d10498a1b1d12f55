// kv_exchange: which keys and values ranks of one sequence need of each other, derived from the windows alone: any
// pattern, any number of ranks; and where the attention over them is computed. Pure lists; who moves and computes is
// src/model/sequence_attention.h.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/windows.h"
#include "parallel/mesh.h"

namespace longlora::parallel {

/// Tokens (global) of K/V heads that rank `to` needs and rank `from` owns. Either these keys and values go to `to`, and
/// backward dK/dV come back; or, with queries, it is computed where the keys are: these queries (global tokens of `to`,
/// all that see the keys) go to `from`, and backward with them what their gradients need; partial results come back,
/// backward dQ.
struct KvTransfer {
    int from = 0, to = 0;
    Shard tokens, heads;
    Shard queries{};
    bool at_owner() const { return queries.count > 0; }
    bool operator==(const KvTransfer&) const = default;
};

/// Tokens of a sequence of N that sequence rank r of S owns: [r*N/S, (r+1)*N/S).
constexpr Shard tokens_of(std::int64_t num_tokens, int rank, int ranks) { return deal_of(num_tokens, rank, ranks); }

/// Neighbouring K/V heads whose query heads are of the same kinds.
struct KvHeadClass {
    Shard heads;
    bool plain = false, shifted = false;
};

/// Of all K/V heads, at most three classes: of plain query heads, of both kinds (where a group of query heads straddles
/// them), of shifted ones.
std::vector<KvHeadClass> kv_head_classes(const Windows& windows, std::int64_t num_heads, std::int64_t num_kv_heads);

/// How many of `queries` see keys before token `end` in any query head of the class: they are the first ones.
std::int64_t num_seeing(const Windows& windows, const KvHeadClass& of, Shard queries, std::int64_t end);

/// rounds[j-1]: what every rank r gets from the rank j to its left, on a ring: keys and values of rank r - j, or
/// queries of rank r - j + S, S ranks in all. First keys and values, then queries, each by `to`, then by tokens; every
/// rank has the same lists. Trailing empty rounds are left out. A K/V head that serves plain and shifted query heads is
/// needed from the earlier of their first keys.
///
/// Causal attention gives later ranks more to do: dense, rank r has r + 1/2 of S equal units. So what a rank needs of
/// one more than S/2 to its left is computed by that one, which has less to do, wherever this takes work (visible pairs
/// x heads) from the one that has more; and only if the rank with the most ends up with less. Dense: S/2 units each for
/// odd S, S/2 - 1/2 or S/2 + 1/2 for even S. The schedule is that of DISTFLASHATTN (Li et al. 2023). S2 on shards of
/// whole groups reaches one neighbour, so nothing changes there. n queries cost as many bytes as n keys and values do
/// where there are as many heads of both, more in grouped-query attention; but work per byte still grows with n alone.
/// What goes to the owner is decided for `pattern`, the windows without documents: windows that see less then never
/// cost more than what is planned for the pattern.
std::vector<std::vector<KvTransfer>> kv_transfers(const Windows& windows, const Windows& pattern, int num_ranks,
                                                  std::int64_t num_heads, std::int64_t num_kv_heads);

/// Whether arriving keys and values stay from forward until backward (S2's halo) or are sent again (dense): they stay
/// when nothing is computed elsewhere and no rank receives more than three quarters of the elements of keys and values
/// that it owns itself.
bool stays_until_backward(const std::vector<std::vector<KvTransfer>>& rounds, std::int64_t num_tokens, int num_ranks,
                          std::int64_t num_kv_heads);

}  // namespace longlora::parallel
