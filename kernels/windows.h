// Windows: which keys a query may see. One number per query token and head kind: token t sees keys first_key[t] .. t.
// What patterns exist (dense, S2-Attn, documents ...) is src/model/attention_pattern.h; here is only the form in which
// operations take them.
#pragma once

#include <span>

#include "core/tensor.h"

namespace longlora {

enum class HeadKind { plain, shifted };

/// first_key is non-decreasing and 0 <= first_key[t] <= t, both rows; so the queries that see key j are a range, found
/// by binary search. Query heads [0, num_plain_heads) use row 0, the others row 1. Tokens are global: row index = token
/// index of the whole sequence.
struct Windows {
    ConstTensor first_key;                  ///< device, (2, N) int32
    std::span<const std::int32_t> host[2];  ///< the same numbers on the host: counting and exchange lists read these
    std::int64_t num_plain_heads = 0;

    std::int64_t num_tokens() const { return static_cast<std::int64_t>(host[0].size()); }
};

/// Visible (query, key) pairs for queries [query_begin, +num_queries) and keys [key_begin, +num_keys), one head of that
/// kind.
std::int64_t visible_pairs(const Windows& windows, HeadKind kind, std::int64_t query_begin, std::int64_t num_queries,
                           std::int64_t key_begin, std::int64_t num_keys);

}  // namespace longlora
