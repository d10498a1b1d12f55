// StepContext: what every layer needs beside its weights and activations - device, rotary tables, windows, the shape of
// the micro-batch. A value for one micro-batch; it owns nothing.
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
    RotaryAngles angles;              ///< (n, E/2): the positions of this rank's tokens
    std::int64_t context_length = 0;  ///< N: tokens per sequence, on all ranks together
    parallel::Shard own_tokens;       ///< tokens [begin, begin + n) of every sequence are this rank's
    std::int64_t num_sequences =
        1;  ///< of the micro-batch; rows of activations are sequence after sequence, n rows each
    const AttentionPattern& pattern;
    /// [sequence][variant]; one sequence stands for all when no document mask is used.
    const std::vector<std::vector<DeviceWindows>>& windows_table;
    /// By variant, without documents: what is kept until backward follows these, so that a plan, which knows no
    /// documents, holds for all sequences.
    const std::vector<DeviceWindows>& pattern_windows;
    parallel::Communicator* sequence =
        nullptr;  ///< the ranks that share a sequence; may be empty when there is only one

    std::int64_t local_length() const { return own_tokens.count; }
    std::int64_t num_tokens() const { return num_sequences * own_tokens.count; }
    const Windows& windows(std::int64_t of_sequence, std::int64_t layer) const {
        const auto& variants = windows_table[windows_table.size() == 1 ? 0 : static_cast<std::size_t>(of_sequence)];
        return *variants[static_cast<std::size_t>(window_variant(pattern, layer))];
    }
    const Windows& windows_without_documents(std::int64_t layer) const {
        return *pattern_windows[static_cast<std::size_t>(window_variant(pattern, layer))];
    }
    Ops ops() const { return device.ops(); }
    ArenaTensor activation(Shape shape) const { return device.memory().tensor(real, shape, Use::activations); }
    ArenaTensor workspace(Shape shape) const { return device.memory().tensor(real, shape, Use::workspace); }
    ArenaTensor statistics(Shape shape, Use use = Use::workspace) const {
        return device.memory().tensor(DType::float32, shape, use);
    }
};

/// Rows that the MLP, the loss and recomputation take at a time, so that a layer's peak is a few times tokens x hidden
/// whatever the intermediate size and vocabulary: as many as keep `width` columns of 4 bytes within 48 MiB, but 64 to
/// 4096, in multiples of 64.
inline std::int64_t tile_rows(std::int64_t width) {
    const std::int64_t rows = (std::int64_t{48} << 20) / (4 * width) / 64 * 64;
    return std::clamp<std::int64_t>(rows, 64, 4096);
}

/// Calls each(begin, count) for tiles of `tile` rows.
template <class Each> void for_tiles(std::int64_t num_rows, std::int64_t tile, Each&& each) {
    for (std::int64_t begin = 0; begin < num_rows; begin += tile) each(begin, std::min(tile, num_rows - begin));
}

}  // namespace longlora
