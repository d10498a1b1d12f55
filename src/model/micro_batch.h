// MicroBatch: tokens, labels and windows of a few sequences on the device; of each sequence only the part that this
// rank owns. src/train/data_order.h and src/eval/perplexity_windows.h decide which tokens these are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/step_context.h"

namespace longlora {

struct MicroBatch {
    std::int64_t num_sequences = 0;
    ArenaTensor ids, labels;               ///< (T) int32; label t is the token after t, or -1 if not counted
    const WindowsTable* shared = nullptr;  ///< the model's windows, without documents
    WindowsTable own_windows;              ///< filled if a document mask makes the windows differ per sequence
    const WindowsTable& windows() const { return own_windows.empty() ? *shared : own_windows; }
};

/// Labels of one sequence for next-token prediction: tokens[1..], then -1. With a document mask, document_begin is as
/// for make_windows, and the label is also -1 where the next token begins a document: no token that predicts it sees
/// anything of that document, so the prediction is not counted.
std::vector<std::int32_t> next_token_labels(std::span<const std::int32_t> tokens,
                                            std::span<const std::int64_t> document_begin = {});

/// The same rule for the labels of the tokens own_tokens of a sequence: overwrites with -1 the labels that begin a
/// document, wherever in the sequence these tokens are.
void leave_out_document_begins(std::span<std::int32_t> labels, parallel::Shard own_tokens,
                               std::span<const std::int64_t> document_begin);

/// How many predictions of a sequence of N = context_length tokens are counted: N - 1, and with a document mask one
/// less for each document that begins after the sequence's first token.
std::int64_t num_predictions(std::int64_t context_length, std::span<const std::int64_t> document_begin = {});

/// The elements [own_tokens.begin, own_tokens.begin + own_tokens.count) of each row of `whole`, one row after
/// another. Each row has `length` elements.
std::vector<std::int32_t> local_part(std::span<const std::int32_t> whole, std::int64_t length,
                                     parallel::Shard own_tokens);

/// The rules of all variants of a pattern over N = context_length tokens, which num_ranks ranks share.
std::vector<parallel::ExchangeRules> exchange_rules_of(const AttentionPattern& pattern, std::int64_t context_length,
                                                       int num_ranks, const ModelConfig& config);
/// Windows of all variants of a pattern, as rank `rank` of the sequence needs them; `rules` are those of the pattern.
/// document_begin is as for make_windows, uploads as for DeviceWindows.
std::vector<SequenceWindows> sequence_windows(Device& device, const AttentionPattern& pattern,
                                              std::int64_t context_length,
                                              const std::vector<parallel::ExchangeRules>& rules, int rank,
                                              std::span<const std::int64_t> document_begin = {},
                                              Uploads* uploads = nullptr);

}  // namespace longlora
