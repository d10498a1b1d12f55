// Computes the labels, the local parts of sequences and the windows of micro-batches on the host. uploads.h copies
// them to the device.
#include "model/micro_batch.h"

#include "core/error.h"

namespace longlora {

std::vector<std::int32_t> next_token_labels(std::span<const std::int32_t> tokens,
                                            std::span<const std::int64_t> document_begin) {
    std::vector<std::int32_t> labels(tokens.begin() + (tokens.empty() ? 0 : 1), tokens.end());
    labels.resize(tokens.size(), -1);
    leave_out_document_begins(labels, {0, static_cast<std::int64_t>(tokens.size())}, document_begin);
    return labels;
}

void leave_out_document_begins(std::span<std::int32_t> labels, parallel::Shard own_tokens,
                               std::span<const std::int64_t> document_begin) {
    ensure(static_cast<std::int64_t>(labels.size()) == own_tokens.count, "a label for each token");
    for (const std::int64_t begin : document_begin) {
        const std::int64_t predicts_it = begin - 1 - own_tokens.begin;
        if (predicts_it >= 0 && predicts_it < own_tokens.count) labels[predicts_it] = -1;
    }
}

std::int64_t num_predictions(std::int64_t context_length, std::span<const std::int64_t> document_begin) {
    std::int64_t count = context_length - 1, last = 0;
    for (const std::int64_t begin : document_begin)
        if (begin > last && begin < context_length) --count, last = begin;
    return count;
}

std::vector<std::int32_t> local_part(std::span<const std::int32_t> whole, std::int64_t length,
                                     parallel::Shard own_tokens) {
    std::vector<std::int32_t> out;
    for (std::size_t row = 0; row < whole.size(); row += length) {
        const auto part = whole.subspan(row + own_tokens.begin, own_tokens.count);
        out.insert(out.end(), part.begin(), part.end());
    }
    return out;
}

std::vector<parallel::ExchangeRules> exchange_rules_of(const AttentionPattern& pattern, std::int64_t context_length,
                                                       int num_ranks, const ModelConfig& config) {
    std::vector<parallel::ExchangeRules> rules;
    for (int variant = 0; variant < num_window_variants(pattern); ++variant)
        rules.push_back(
            parallel::exchange_rules(on_host(make_windows(pattern, variant, context_length, config.num_heads)),
                                     num_ranks, config.num_heads, config.num_kv_heads));
    return rules;
}

std::vector<SequenceWindows> sequence_windows(Device& device, const AttentionPattern& pattern,
                                              std::int64_t context_length,
                                              const std::vector<parallel::ExchangeRules>& rules, int rank,
                                              std::span<const std::int64_t> document_begin, Uploads* uploads) {
    std::vector<SequenceWindows> variants;
    for (int variant = 0; variant < num_window_variants(pattern); ++variant) {
        const parallel::ExchangeRules& here = rules[static_cast<std::size_t>(variant)];
        DeviceWindows windows(device, make_windows(pattern, variant, context_length, here.num_heads, document_begin),
                              uploads);
        parallel::KvRounds rounds = parallel::kv_transfers(here, *windows, rank);
        std::vector<std::int64_t> alike;
        if (device.kind() == DeviceKind::plan) alike = parallel::rounds_alike_before(rounds, here, *windows, rank);
        variants.push_back({std::move(windows), std::move(rounds), std::move(alike)});
    }
    return variants;
}

}  // namespace longlora
