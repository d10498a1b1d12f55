// Uploads go through pinned memory on the compute stream.
#include "model/micro_batch.h"

#include <algorithm>

namespace longlora {
namespace {

ArenaTensor upload(Device& device, std::span<const std::int32_t> values) {
    const Shape shape{static_cast<std::int64_t>(values.size())};
    ArenaTensor on_device = device.memory().tensor(DType::int32, shape, Use::batch), staging = device.pinned().tensor(DType::int32, shape, Use::batch);
    std::copy(values.begin(), values.end(), staging->data<std::int32_t>());
    device.copy_to_device(on_device, staging, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    return on_device;
}

}  // namespace

std::vector<std::int32_t> next_token_labels(std::span<const std::int32_t> tokens) {
    std::vector<std::int32_t> labels(tokens.begin() + (tokens.empty() ? 0 : 1), tokens.end());
    labels.resize(tokens.size(), -1);
    return labels;
}

std::vector<std::vector<DeviceWindows>> shared_windows(Device& device, const AttentionPattern& pattern, std::int64_t context_length, std::int64_t num_heads) {
    std::vector<std::vector<DeviceWindows>> table(1);
    for (int variant = 0; variant < num_window_variants(pattern); ++variant)
        table[0].emplace_back(device, make_windows(pattern, variant, context_length, num_heads));
    return table;
}

MicroBatch make_micro_batch(Device& device, std::span<const std::int32_t> tokens, std::span<const std::int32_t> labels, std::int64_t context_length,
                            const AttentionPattern& pattern, std::int64_t num_heads, const std::vector<std::vector<std::int64_t>>& document_starts,
                            const std::vector<std::vector<DeviceWindows>>& shared) {
    MicroBatch batch;
    batch.context_length = context_length;
    batch.num_sequences = static_cast<std::int64_t>(tokens.size()) / context_length;
    ensure(batch.num_sequences * context_length == static_cast<std::int64_t>(tokens.size()) && tokens.size() == labels.size(), "a micro-batch is whole sequences");
    batch.ids = upload(device, tokens);
    batch.labels = upload(device, labels);
    batch.windows = &shared;
    for (const auto& starts : document_starts) {
        auto& variants = batch.own_windows.emplace_back();
        for (int variant = 0; variant < num_window_variants(pattern); ++variant)
            variants.emplace_back(device, make_windows(pattern, variant, context_length, num_heads, starts));
    }
    return batch;
}

}  // namespace longlora
