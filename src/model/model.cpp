// Shapes: T tokens of the micro-batch, D hidden, V vocabulary.
#include "model/model.h"

#include <cstring>

namespace longlora {
namespace {

ArenaTensor upload_table(Device& device, const std::vector<float>& values, Shape shape) {
    ArenaTensor on_device = device.memory().tensor(DType::float32, shape, Use::weights), staging = device.pinned().tensor(DType::float32, shape, Use::batch);
    std::memcpy(staging->bytes, values.data(), values.size() * sizeof(float));
    device.copy_to_device(on_device, staging, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    return on_device;
}

}  // namespace

KeepPlan keep_nothing(const ModelConfig& config) { return KeepPlan(static_cast<std::size_t>(config.num_layers)); }
KeepPlan keep_everything(const ModelConfig& config) { return KeepPlan(static_cast<std::size_t>(config.num_layers), LayerKeep{true, true, true, true}); }

Model::Model(Weights& weights, const AttentionPattern& pattern, std::int64_t context_length) : weights_(weights), pattern_(pattern), context_length_(context_length) {
    for (std::int64_t layer = 0; layer < config().num_layers; ++layer) layers_.push_back({attention_weights_of(weights, layer), mlp_weights_of(weights, layer)});
    head_ = head_weights_of(weights);
    const RotaryTables tables = rotary_tables(config(), context_length);
    cos_ = upload_table(device(), tables.cos, {tables.positions, tables.half});
    sin_ = upload_table(device(), tables.sin, {tables.positions, tables.half});
    windows_ = shared_windows(device(), pattern_, context_length, config().num_heads);
}

StepContext Model::context(const MicroBatch& batch) {
    ensure(batch.context_length == context_length_, "a micro-batch has the model's context length");
    return {device(), config(), weights_.options().real, cos_, sin_, context_length_, batch.num_sequences, pattern_, batch.windows_table()};
}

ArenaTensor Model::embed(const StepContext& context, const MicroBatch& batch) {
    ArenaTensor h = context.activation({context.num_tokens(), config().hidden});
    embedding_forward(context, head_, h, batch.ids);
    return h;
}

Model::LayerSaved Model::layer_forward(const StepContext& context, std::int64_t layer, ArenaTensor& h, const LayerKeep& keep) {
    const Layer& l = layers_[static_cast<std::size_t>(layer)];
    LayerSaved saved;
    saved.attention = attention_forward(context, l.attention, layer, h, keep);
    ArenaTensor out = context.activation(h->shape);
    saved.mlp = mlp_forward(context, l.mlp, out, saved.attention.mid, keep.gate_up);
    if (!keep.mid) saved.attention.mid.release();
    saved.h = std::move(h);
    h = std::move(out);
    return saved;
}

void Model::layer_backward(const StepContext& context, std::int64_t layer, Tensor d_h, LayerSaved& saved) {
    const Layer& l = layers_[static_cast<std::size_t>(layer)];
    attention_restore(context, l.attention, layer, saved.h, saved.attention);
    mlp_backward(context, l.mlp, d_h, saved.attention.mid, saved.mlp);
    attention_backward(context, l.attention, layer, d_h, saved.h, saved.attention);
    saved.h.release();
}

ArenaTensor Model::forward_only(const StepContext& context, const MicroBatch& batch) {
    ArenaTensor h = embed(context, batch);
    for (std::int64_t layer = 0; layer < config().num_layers; ++layer) layer_forward(context, layer, h, {});
    return h;
}

void Model::loss(const MicroBatch& batch, Tensor loss_sum) {
    const StepContext c = context(batch);
    head_loss(c, head_, loss_sum, forward_only(c, batch), batch.labels);
}

void Model::logits(const MicroBatch& batch, Tensor logits) {
    const StepContext c = context(batch);
    head_logits(c, head_, logits, forward_only(c, batch));
}

void Model::loss_and_gradients(const MicroBatch& batch, Tensor loss_sum, float scale, const KeepPlan& keep, const std::function<void(std::int64_t)>& unit_done) {
    const StepContext c = context(batch);
    const std::int64_t num_layers = config().num_layers;
    const auto done = [&](std::int64_t unit) { if (unit_done) unit_done(unit); };
    std::vector<LayerSaved> saved(static_cast<std::size_t>(num_layers));
    ArenaTensor h = embed(c, batch);
    for (std::int64_t layer = 0; layer < num_layers; ++layer) saved[static_cast<std::size_t>(layer)] = layer_forward(c, layer, h, keep[static_cast<std::size_t>(layer)]);

    ArenaTensor d_h = c.activation(h->shape);
    head_loss_backward(c, head_, loss_sum, d_h, h, batch.labels, scale);
    h.release();
    done(num_layers + 1);
    for (std::int64_t layer = num_layers - 1; layer >= 0; --layer) {
        layer_backward(c, layer, d_h, saved[static_cast<std::size_t>(layer)]);
        done(layer + 1);
    }
    embedding_backward(c, head_, d_h, batch.ids);
    done(0);
}

}  // namespace longlora
