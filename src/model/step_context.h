// StepContext: what every layer needs besides its weights and activations: device, configuration, rotary tables,
// windows, and the shape of the micro-batch. It is a value for one micro-batch and owns nothing; model.cpp makes it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "model/attention_pattern.h"
#include "model/config.h"
#include "parallel/communicator.h"

namespace longlora {

struct StepContext {
    Device& device;
    const ModelConfig& config;
    DType real;                       ///< type of activations
    RotaryAngles angles;              ///< rotary tables (n, E/2), a row for each of this rank's n tokens
    std::int64_t context_length = 0;  ///< N: tokens per sequence, on all ranks together
    parallel::Shard own_tokens;       ///< this rank owns tokens [begin, begin + n) of every sequence
    std::int64_t num_sequences =
        1;  ///< in the micro-batch; activations have n rows per sequence, one sequence after another
    const AttentionPattern& pattern;
    /// Indexed [sequence][variant]. Without a document mask it has one entry, which serves all sequences.
    const std::vector<std::vector<DeviceWindows>>& windows_table;
    /// Indexed [variant], without documents. They decide what is kept until backward, so a plan, which knows no
    /// documents, holds for all sequences.
    const std::vector<DeviceWindows>& pattern_windows;
    parallel::Communicator* sequence =
        nullptr;  ///< the ranks that share a sequence; may be nullptr if there is only one such rank

    std::int64_t local_length() const { return own_tokens.count; }
    std::int64_t num_tokens() const { return num_sequences * own_tokens.count; }
    const Windows& windows(std::int64_t of_sequence, std::int64_t layer) const {
        const auto& variants = windows_table[windows_table.size() == 1 ? 0 : static_cast<std::size_t>(of_sequence)];
        return *variants[window_variant(pattern, layer)];
    }
    const Windows& windows_without_documents(std::int64_t layer) const {
        return *pattern_windows[window_variant(pattern, layer)];
    }
    Ops ops() const { return device.ops(); }
    ArenaTensor activation(Shape shape) const { return device.memory().tensor(real, shape, Use::activations); }
    ArenaTensor workspace(Shape shape) const { return device.memory().tensor(real, shape, Use::workspace); }
    ArenaTensor statistics(Shape shape, Use use = Use::workspace) const {
        return device.memory().tensor(DType::float32, shape, use);
    }
};

/// The number of rows that the MLP and the head process at a time, so that the peak memory of a layer is a few times
/// tokens x hidden, whatever the intermediate size and the vocabulary. It is the largest multiple of 64 with which
/// `width` columns of 4 bytes take at most 48 MiB, but at least 64 and at most 4096.
inline std::int64_t tile_rows(std::int64_t width) {
    const std::int64_t rows = (std::int64_t{48} << 20) / (4 * width) / 64 * 64;
    return std::clamp<std::int64_t>(rows, 64, 4096);
}

/// Calls each(begin, count) for consecutive tiles of `tile` rows; the last tile may have fewer.
template <class Each> void for_tiles(std::int64_t num_rows, std::int64_t tile, Each&& each) {
    for (std::int64_t begin = 0; begin < num_rows; begin += tile) each(begin, std::min(tile, num_rows - begin));
}

}  // namespace longlora
