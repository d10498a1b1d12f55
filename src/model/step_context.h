// StepContext: what every layer needs besides its weights and activations: device, configuration, rotary tables,
// windows, and the shape of the micro-batch. It is a value for one micro-batch and owns nothing; model.cpp makes it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "model/attention_pattern.h"
#include "model/config.h"
#include "parallel/communicator.h"
#include "parallel/kv_exchange.h"

namespace longlora {

/// The windows of one sequence, and what this rank sends and receives for attention with them: no rounds if it has the
/// sequence alone.
struct SequenceWindows {
    DeviceWindows windows;
    parallel::KvRounds rounds;
    /// For a plan, which leaves out rounds that repeat: rounds_alike_before(); empty on other devices.
    std::vector<std::int64_t> alike_before{};
};
/// Indexed [sequence][variant]. Without a document mask it has one entry, which serves all sequences.
using WindowsTable = std::vector<std::vector<SequenceWindows>>;

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
    const WindowsTable& windows_table;
    /// Indexed [variant]. They follow from the windows without documents and decide what is kept until backward, so a
    /// plan, which knows no documents, holds for all sequences.
    const std::vector<parallel::ExchangeRules>& exchange_rules;
    parallel::Communicator* sequence =
        nullptr;  ///< the ranks that share a sequence; may be nullptr if there is only one such rank

    std::int64_t local_length() const { return own_tokens.count; }
    std::int64_t num_tokens() const { return num_sequences * own_tokens.count; }
    const SequenceWindows& of_sequence(std::int64_t s, std::int64_t layer) const {
        const auto& variants = windows_table[windows_table.size() == 1 ? 0 : static_cast<std::size_t>(s)];
        return variants[window_variant(pattern, layer)];
    }
    const Windows& windows(std::int64_t s, std::int64_t layer) const { return *of_sequence(s, layer).windows; }
    const parallel::ExchangeRules& rules(std::int64_t layer) const {
        return exchange_rules[window_variant(pattern, layer)];
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
