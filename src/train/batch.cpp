// Cuts whole sequences into the part of one rank.
#include "train/batch.h"

#include "model/micro_batch.h"

namespace longlora {

Batch make_batch(std::span<const std::int32_t> tokens, std::int64_t length, parallel::Shard own_tokens,
                 std::vector<std::vector<std::int64_t>> document_starts) {
    std::vector<std::int32_t> labels;
    for (std::size_t row = 0; row < tokens.size(); row += static_cast<std::size_t>(length)) {
        const auto next = next_token_labels(tokens.subspan(row, length));
        labels.insert(labels.end(), next.begin(), next.end());
    }
    return {local_part(tokens, length, own_tokens), local_part(labels, length, own_tokens), std::move(document_starts)};
}

}  // namespace longlora
