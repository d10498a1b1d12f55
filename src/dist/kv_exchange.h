// kv_exchange: which keys and values ranks of one sequence need of each other, derived from the windows alone: any pattern, any number of ranks.
// Pure lists; who moves and computes is src/model/sequence_attention.h.
#pragma once

#include <cstdint>
#include <vector>

#include "dist/mesh.h"
#include "kernels/windows.h"

namespace longlora::dist {

/// Tokens (global) of K/V heads that rank `to` needs and rank `from` owns. Backward, the same list read from `to` to `from` is that of dK/dV.
struct KvTransfer {
    int from = 0, to = 0;
    Shard tokens, heads;
    bool operator==(const KvTransfer&) const = default;
};

/// Tokens of a sequence of N that sequence rank r of S owns: [r*N/S, (r+1)*N/S).
constexpr Shard tokens_of(std::int64_t num_tokens, int rank, int ranks) { return deal_of(num_tokens, rank, ranks); }

/// Neighbouring K/V heads whose query heads are of the same kinds.
struct KvHeadClass {
    Shard heads;
    bool plain = false, shifted = false;
};

/// Of all K/V heads, at most three classes: of plain query heads, of both kinds (where a group of query heads straddles them), of shifted ones.
std::vector<KvHeadClass> kv_head_classes(const Windows& windows, std::int64_t num_heads, std::int64_t num_kv_heads);

/// rounds[j-1]: what ranks need of the rank j to their left, by `to`, then by tokens; every rank has the same lists. Trailing empty rounds are left out.
/// A K/V head that serves plain and shifted query heads is needed from the earlier of their first keys.
std::vector<std::vector<KvTransfer>> kv_transfers(const Windows& windows, int num_ranks, std::int64_t num_heads, std::int64_t num_kv_heads);

/// Whether arriving keys and values stay from forward until backward (S2's halo) or are sent again (dense): they stay when no rank receives more than
/// three quarters of the elements of keys and values that it owns itself.
bool stays_until_backward(const std::vector<std::vector<KvTransfer>>& rounds, std::int64_t num_tokens, int num_ranks, std::int64_t num_kv_heads);

}  // namespace longlora::dist
