// Cuts whole sequences into the part of one rank.
#include "train/batch.h"

#include "model/micro_batch.h"

namespace longlora {

Batch make_batch(std::span<const std::int32_t> tokens, std::int64_t length, parallel::Shard own_tokens,
                 std::vector<std::vector<std::int64_t>> document_starts) {
    std::vector<std::int32_t> labels;
    std::int64_t predictions = 0;
    for (std::size_t i = 0; i * length < tokens.size(); ++i) {
        const auto starts = document_starts.empty() ? std::span<const std::int64_t>() : document_starts[i];
        const auto next = next_token_labels(tokens.subspan(i * length, length), starts);
        labels.insert(labels.end(), next.begin(), next.end());
        predictions += num_predictions(length, starts);
    }
    return {local_part(tokens, length, own_tokens), local_part(labels, length, own_tokens), std::move(document_starts),
            predictions};
}

}  // namespace longlora
