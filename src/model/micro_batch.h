// MicroBatch: tokens, labels and windows of a few sequences on the device - of each sequence the part that is this
// rank's. Which tokens they are is data order's business (src/train, src/eval).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/attention_pattern.h"
#include "parallel/mesh.h"

namespace longlora {

/// [sequence][variant]; one sequence stands for all when no document mask is used.
using WindowsTable = std::vector<std::vector<DeviceWindows>>;

struct MicroBatch {
    std::int64_t num_sequences = 0;
    ArenaTensor ids, labels;               ///< (T) int32; label t is the token after t, -1 = not counted
    const WindowsTable* shared = nullptr;  ///< of the model
    WindowsTable own_windows;              ///< filled when a document mask makes them differ per sequence
    const WindowsTable& windows() const { return own_windows.empty() ? *shared : own_windows; }
};

/// Labels of one sequence for next-token prediction: tokens[1..], -1 at the end.
std::vector<std::int32_t> next_token_labels(std::span<const std::int32_t> tokens);

/// The elements [local.begin, +local.count) of each row of `whole` (rows of `length`), one after another.
std::vector<std::int32_t> local_part(std::span<const std::int32_t> whole, std::int64_t length,
                                     parallel::Shard own_tokens);

/// Windows of all variants of a pattern over N = context_length tokens; uploads as for DeviceWindows.
std::vector<DeviceWindows> pattern_windows(Device& device, const AttentionPattern& pattern, std::int64_t context_length,
                                           std::int64_t num_heads, std::span<const std::int64_t> document_begin = {},
                                           Uploads* uploads = nullptr);

}  // namespace longlora
