// kv_exchange: which keys and values the ranks of one sequence need from each other, and on which rank the attention
// over them is computed. Both follow from the windows alone, for any pattern and any number of ranks. This file only
// makes lists; src/model/sequence_attention.h moves and computes.
#pragma once

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

/// Returns rounds. rounds[j-1] is what every rank r receives from the rank j places to its left on a ring of S ranks:
/// keys and values of rank r - j, or queries of rank r - j + S. A round lists keys and values first, then queries,
/// each ordered by `to`, then by tokens; every rank makes the same lists. Trailing empty rounds are left out. A K/V
/// head that serves plain and shifted query heads is needed from the earlier of their first keys.
///
/// Causal attention gives later ranks more work: with dense attention rank r has r + 1/2 units, where a unit is one
/// shard of queries against one shard of keys. So if rank `to` needs keys from an owner more than S/2 places to its
/// left, the owner, which has less work, computes the attention over them. This is done only for pairs of ranks where
/// it moves work (visible pairs x heads) from the rank that has more, and only if the highest work of all ranks
/// becomes lower. Dense attention then takes S/2 units per rank for odd S, and S/2 - 1/2 or S/2 + 1/2 for even S. The
/// schedule is that of DISTFLASHATTN (Li et al. 2023). S2 on shards of whole groups reaches one neighbour only, so
/// nothing changes there.
///
/// Sending n queries takes as many bytes as sending n keys and values if there are as many query heads as K/V heads,
/// and more with grouped-query attention; the work per byte still grows with n alone. Which work goes to the owner is
/// decided for `pattern`, the windows without documents: windows that see less never cost more than what is planned
/// for the pattern.
std::vector<std::vector<KvTransfer>> kv_transfers(const Windows& windows, const Windows& pattern, int num_ranks,
                                                  std::int64_t num_heads, std::int64_t num_kv_heads);

/// Whether received keys and values stay from forward until backward (the halo of S2) or are sent again (dense). They
/// stay if no attention is computed by the owner of the keys, and no rank receives more than three quarters as many
/// elements of keys and values as it owns.
bool stays_until_backward(const std::vector<std::vector<KvTransfer>>& rounds, std::int64_t num_tokens, int num_ranks,
                          std::int64_t num_kv_heads);

}  // namespace longlora::parallel
