// A query that sees keys before some key sees all of them from its first key on. So pairs with keys before a bound are
// a difference of sums of first keys, and a range of keys is the difference of two bounds.
#include "kernels/windows.h"

#include <algorithm>

namespace longlora {
namespace {

/// The visible pairs of a query before `query_end` and a key before `key_end`.
std::int64_t pairs_before(const FirstKeys& first_key, std::int64_t query_end, std::int64_t key_end) {
    // Queries before key_end see all their keys. Later ones see first_key .. key_end - 1, until first_key is beyond.
    const std::int64_t near = std::clamp<std::int64_t>(key_end, 0, query_end),
                       far = std::clamp(first_key.first_token_at(key_end), near, query_end);
    return near * (near + 1) / 2 + (far - near) * key_end - first_key.sum_before(far);
}

}  // namespace

std::int64_t visible_pairs(const Windows& windows, HeadKind kind, std::int64_t query_begin, std::int64_t num_queries,
                           std::int64_t key_begin, std::int64_t num_keys) {
    const FirstKeys& first_key = windows.host[kind == HeadKind::shifted];
    const std::int64_t query_end = query_begin + num_queries, key_end = key_begin + num_keys;
    ensure(query_begin >= 0 && num_queries >= 0 && query_end <= first_key.num_tokens(),
           "queries lie outside of the windows");
    if (num_queries == 0 || num_keys <= 0) return 0;
    return pairs_before(first_key, query_end, key_end) - pairs_before(first_key, query_begin, key_end) -
           pairs_before(first_key, query_end, key_begin) + pairs_before(first_key, query_begin, key_begin);
}

}  // namespace longlora
