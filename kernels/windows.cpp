// Counts visible pairs on the host copy of first_key, in time proportional to the number of queries.
#include "kernels/windows.h"

#include <algorithm>

namespace longlora {

std::int64_t visible_pairs(const Windows& windows, HeadKind kind, std::int64_t query_begin, std::int64_t num_queries,
                           std::int64_t key_begin, std::int64_t num_keys) {
    const auto first_key = windows.host[kind == HeadKind::shifted];
    ensure(query_begin >= 0 && num_queries >= 0 &&
               query_begin + num_queries <= static_cast<std::int64_t>(first_key.size()),
           "queries lie outside of the windows");
    std::int64_t pairs = 0;
    for (std::int64_t t = std::max(query_begin, key_begin); t < query_begin + num_queries; ++t) {
        const std::int64_t begin = std::max<std::int64_t>(first_key[t], key_begin),
                           end = std::min(t + 1, key_begin + num_keys);
        pairs += std::max<std::int64_t>(end - begin, 0);
    }
    return pairs;
}

}  // namespace longlora
