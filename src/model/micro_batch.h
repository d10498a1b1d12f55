// MicroBatch: tokens, labels and windows of a few sequences on the device. Which tokens they are is data order's business (src/train, src/eval).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/attention_pattern.h"

namespace longlora {

struct MicroBatch {
    std::int64_t num_sequences = 0, context_length = 0;
    ArenaTensor ids, labels;                                 ///< (T) int32; label t is the token after t, -1 = not counted
    const std::vector<std::vector<DeviceWindows>>* windows = nullptr;   ///< [sequence or 0][variant]
    std::vector<std::vector<DeviceWindows>> own_windows;     ///< filled when a document mask makes them differ per sequence
    const std::vector<std::vector<DeviceWindows>>& windows_table() const { return own_windows.empty() ? *windows : own_windows; }
};

/// Labels of one sequence for next-token prediction: tokens[1..], -1 at the end.
std::vector<std::int32_t> next_token_labels(std::span<const std::int32_t> tokens);

/// Windows of all variants of a pattern, without documents.
std::vector<std::vector<DeviceWindows>> shared_windows(Device& device, const AttentionPattern& pattern, std::int64_t context_length, std::int64_t num_heads);

/// tokens, labels: sequences one after another. document_starts: per sequence, or empty for no document mask (then `shared` is used and must outlive it).
MicroBatch make_micro_batch(Device& device, std::span<const std::int32_t> tokens, std::span<const std::int32_t> labels, std::int64_t context_length,
                            const AttentionPattern& pattern, std::int64_t num_heads, const std::vector<std::vector<std::int64_t>>& document_starts,
                            const std::vector<std::vector<DeviceWindows>>& shared);

}  // namespace longlora
