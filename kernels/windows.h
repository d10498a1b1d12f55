// Windows: which keys a query may see, with one number per token and kind of head: token t sees the keys first_key[t]
// .. t. This file has only the form that operations take. The patterns (dense, S2-Attn, documents ...) are in
// src/model/attention_pattern.h.
#pragma once

#include "core/tensor.h"
#include "kernels/first_keys.h"

namespace longlora {

enum class HeadKind { plain, shifted };

/// In both rows first_key is non-decreasing and 0 <= first_key[t] <= t. So the queries that see a key are a range,
/// which binary search finds. Query heads [0, num_plain_heads) use row 0, the others use row 1. Element t of a row
/// belongs to token t of the whole sequence.
struct Windows {
    ConstTensor first_key;  ///< in device memory, (2, N) int32
    FirstKeys host[2];      ///< the same rows on the host, for counts and exchange lists
    std::int64_t num_plain_heads = 0;

    std::int64_t num_tokens() const { return host[0].num_tokens(); }
};

/// The number of visible pairs of a query of [query_begin, query_begin + num_queries) and a key of [key_begin,
/// key_begin + num_keys), in one head of this kind. Takes a few binary searches, whatever the number of tokens.
std::int64_t visible_pairs(const Windows& windows, HeadKind kind, std::int64_t query_begin, std::int64_t num_queries,
                           std::int64_t key_begin, std::int64_t num_keys);

}  // namespace longlora
