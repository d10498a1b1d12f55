// The forward and backward pass of a stage, unit by unit. Shapes: T tokens of the micro-batch on this rank, D hidden,
// V vocabulary. Units: 0 is the embedding, layer + 1 a layer, num_layers + 1 the head.
#include "model/model.h"

#include <algorithm>
#include <utility>

namespace longlora {
namespace {

ArenaTensor upload_rows(Device& device, const std::vector<float>& values, Shape shape) {
    ArenaTensor on_device = device.memory().tensor(DType::float32, shape, Use::weights),
                staging = device.pinned().tensor(DType::float32, shape, Use::batch);
    std::copy(values.begin(), values.end(), staging->data<float>());
    device.copy_to_device(on_device, staging, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    return on_device;
}

constexpr std::int64_t kNone = -1;
constexpr std::int64_t unit_of(std::int64_t layer) { return layer + 1; }

}  // namespace

ActivationPlan keep_nothing(const ModelConfig& config) { return ActivationPlan(config.num_layers); }
ActivationPlan keep_everything(const ModelConfig& config) {
    return ActivationPlan(config.num_layers, KeptActivations{true, true, true, true});
}

Model::Model(Weights& weights, const AttentionPattern& pattern, std::int64_t context_length,
             parallel::Communicator* sequence, bool offload, std::vector<parallel::ExchangeRules> rules)
    : weights_(weights),
      zero_(weights),
      pattern_(pattern),
      context_length_(context_length),
      sequence_(sequence),
      own_tokens_(sequence ? parallel::tokens_of(context_length, sequence->rank(), sequence->size())
                           : parallel::Shard{0, context_length}),
      uploads_(weights.device()) {
    RotaryTables tables{own_tokens_.count,
                        config().head_dim / 2,
                        {},
                        {}};  // a plan needs only their memory; millions of sines would take most of its time
    if (device().kind() != DeviceKind::plan)
        tables = rotary_tables(config(), context_length, own_tokens_.begin, own_tokens_.count);
    cos_ = upload_rows(device(), tables.cos, {tables.positions, tables.half});
    sin_ = upload_rows(device(), tables.sin, {tables.positions, tables.half});
    exchange_rules_ = std::move(rules);
    if (exchange_rules_.empty())
        exchange_rules_ = exchange_rules_of(pattern_, context_length, sequence ? sequence->size() : 1, config());
    windows_.push_back(sequence_windows(device(), pattern_, context_length, exchange_rules_, sequence_rank()));
    if (offload) offload_.emplace(device());
}

MicroBatch Model::micro_batch(std::span<const std::int32_t> tokens, std::span<const std::int32_t> labels,
                              const std::vector<std::vector<std::int64_t>>& document_starts) {
    MicroBatch batch;
    batch.num_sequences = static_cast<std::int64_t>(tokens.size()) / own_tokens_.count;
    ensure(batch.num_sequences * own_tokens_.count == static_cast<std::int64_t>(tokens.size()) &&
               tokens.size() == labels.size(),
           "a micro-batch is whole parts of sequences");
    const std::int64_t count = tokens.size();
    uploads_.begin(2 * count + static_cast<std::int64_t>(document_starts.size()) * num_window_variants(pattern_) * 2 *
                                   context_length_);
    batch.ids = uploads_.upload(
        {count}, [&](Tensor host) { std::copy(tokens.begin(), tokens.end(), host.data<std::int32_t>()); });
    batch.labels = uploads_.upload(
        {count}, [&](Tensor host) { std::copy(labels.begin(), labels.end(), host.data<std::int32_t>()); });
    batch.shared = &windows_;
    for (const auto& starts : document_starts)
        batch.own_windows.push_back(
            sequence_windows(device(), pattern_, context_length_, exchange_rules_, sequence_rank(), starts, &uploads_));
    return batch;
}

StepContext Model::context(std::int64_t num_sequences, const WindowsTable& windows) const {
    return {device(),
            config(),
            weights_.options().real,
            {.cos = cos_, .sin = sin_},
            context_length_,
            own_tokens_,
            num_sequences,
            pattern_,
            windows,
            exchange_rules_,
            sequence_};
}

ArenaTensor Model::stage_input(std::int64_t num_sequences) const {
    return context(num_sequences, windows_).activation({num_sequences * own_tokens_.count, config().hidden});
}

/// The unit whose weights forward reads after those of `layer`, or kNone.
std::int64_t Model::after(std::int64_t layer) const {
    return layer < last_layer() ? unit_of(layer + 1) : stage().has_head ? unit_of(config().num_layers) : kNone;
}

/// The embedded tokens on the first stage, `input` on the others.
ArenaTensor Model::first_input(const StepContext& context, const MicroBatch& batch, ArenaTensor input) {
    if (!stage().has_embedding) return input;
    const UnitMark mark(device().recorder(), kEmbeddingUnit);
    zero_.open(kEmbeddingUnit, unit_of(stage().first_layer));
    ArenaTensor h = context.activation({context.num_tokens(), config().hidden});
    context.ops().embedding_forward(h, weights_.weight(table_of(weights_)), batch.ids);
    zero_.close(kEmbeddingUnit);
    return h;
}

LayerSaved Model::layer_forward(const StepContext& context, std::int64_t layer, ArenaTensor& h,
                                const KeptActivations& kept) {
    const UnitMark mark(device().recorder(), static_cast<int>(unit_of(layer)));
    zero_.open(unit_of(layer), after(layer));
    LayerSaved saved;
    saved.attention = attention_forward(context, attention_weights_of(weights_, layer), layer, h, kept);
    ArenaTensor out = context.activation(h->shape);
    saved.mlp = mlp_forward(context, mlp_weights_of(weights_, layer), out, saved.attention.mid, kept.gate_up);
    if (!kept.mid) saved.attention.mid.release();
    saved.h = std::move(h);
    h = std::move(out);
    zero_.close(unit_of(layer));
    device().mark_progress();
    return saved;
}

void Model::layer_backward(const StepContext& context, std::int64_t layer, Tensor d_h, LayerSaved& saved) {
    zero_.open(unit_of(layer), layer > stage().first_layer ? unit_of(layer - 1) : kNone);
    zero_.open_gradients(unit_of(layer));
    const AttentionWeights attention = attention_weights_of(weights_, layer);
    attention_restore(context, attention, layer, saved.h, saved.attention);
    mlp_backward(context, mlp_weights_of(weights_, layer), d_h, saved.attention.mid, saved.mlp);
    attention_backward(context, attention, layer, d_h, saved.h, saved.attention);
    saved.h.release();
    zero_.close(unit_of(layer));
    device().mark_progress();
}

/// A tied head also reads the unit of the embedding.
void Model::open_head(std::int64_t next) {
    if (shares_table()) zero_.open(kEmbeddingUnit);
    zero_.open(unit_of(config().num_layers), next);
}
void Model::close_head() {
    zero_.close(unit_of(config().num_layers));
    if (shares_table()) zero_.close(kEmbeddingUnit);
}
void Model::open_head_gradients() {
    if (shares_table()) zero_.open_gradients(kEmbeddingUnit);
    zero_.open_gradients(unit_of(config().num_layers));
}
/// If the embedding is on this stage too, its backward adds to the gradient of the shared table later.
void Model::close_head_gradients(bool last) {
    zero_.close_gradients(unit_of(config().num_layers), last);
    if (shares_table()) zero_.close_gradients(kEmbeddingUnit, last && !stage().has_embedding);
}

/// Whether the input of `layer` is offloaded. The input of the last layer of the last stage is not: backward begins
/// with this layer, so its input would have to come back at once.
bool Model::goes_away(std::int64_t layer) const { return offload_ && (layer < last_layer() || !stage().has_head); }

void Model::fetch_input(StageSaved& saved, std::int64_t layer) {
    if (layer >= stage().first_layer && goes_away(layer))
        offload_->fetch(saved.layers[layer - stage().first_layer].stored_h);
}

StageSaved Model::forward(const MicroBatch& batch, ArenaTensor input, const ActivationPlan& activations) {
    const StepContext c = context(batch.num_sequences, batch.windows());
    StageSaved saved;
    ArenaTensor h = first_input(c, batch, std::move(input));
    for (std::int64_t layer = stage().first_layer; layer <= last_layer(); ++layer) {
        saved.layers.push_back(layer_forward(c, layer, h, activations[layer]));
        LayerSaved& last = saved.layers.back();
        if (goes_away(layer)) last.stored_h = offload_->store(std::move(last.h));
    }
    if (offload_) offload_->settle();
    saved.out = std::move(h);
    return saved;
}

ArenaTensor Model::loss_gradient(const MicroBatch& batch, StageSaved& saved, Tensor loss_sum, float scale, bool last) {
    const UnitMark mark(device().recorder(), static_cast<int>(unit_of(config().num_layers)));
    const StepContext c = context(batch.num_sequences, batch.windows());
    open_head(unit_of(last_layer()));
    open_head_gradients();
    ArenaTensor d_out = c.activation(saved.out->shape);
    head_loss_backward(c, head_weights_of(weights_), loss_sum, d_out, saved.out, batch.labels, scale);
    saved.out.release();
    close_head();
    close_head_gradients(last);
    return d_out;
}

ArenaTensor Model::backward(const MicroBatch& batch, StageSaved& saved, ArenaTensor d_out, bool last) {
    const StepContext c = context(batch.num_sequences, batch.windows());
    saved.out.release();
    fetch_input(saved, last_layer());
    for (std::int64_t layer = last_layer(); layer >= stage().first_layer; --layer) {
        const UnitMark mark(device().recorder(), static_cast<int>(unit_of(layer)));
        if (goes_away(layer)) saved.layers.back().h = offload_->take(saved.layers.back().stored_h);
        fetch_input(saved, layer - 1);
        layer_backward(c, layer, d_out, saved.layers.back());
        saved.layers.pop_back();
        zero_.close_gradients(unit_of(layer), last);
    }
    if (!stage().has_embedding) return d_out;
    const UnitMark mark(device().recorder(), kEmbeddingUnit);
    zero_.open_gradients(kEmbeddingUnit);
    if (const Tensor d_table = weights_.gradient(table_of(weights_)))
        c.ops().embedding_backward(d_table, d_out, batch.ids);
    d_out.release();
    zero_.close_gradients(kEmbeddingUnit, last);
    return {};
}

void Model::idle_forward() {
    const auto pass = [&](std::int64_t unit, std::int64_t next) { zero_.open(unit, next), zero_.close(unit); };
    if (stage().has_embedding) pass(kEmbeddingUnit, unit_of(stage().first_layer));
    for (std::int64_t layer = stage().first_layer; layer <= last_layer(); ++layer) pass(unit_of(layer), after(layer));
}

void Model::idle_loss_gradient(bool last) {
    open_head(unit_of(last_layer()));
    open_head_gradients();
    close_head();
    close_head_gradients(last);
}

void Model::idle_backward(bool last) {
    for (std::int64_t layer = last_layer(); layer >= stage().first_layer; --layer) {
        zero_.open(unit_of(layer), layer > stage().first_layer ? unit_of(layer - 1) : kNone);
        zero_.open_gradients(unit_of(layer));
        zero_.close(unit_of(layer));
        zero_.close_gradients(unit_of(layer), last);
    }
    if (!stage().has_embedding) return;
    zero_.open_gradients(kEmbeddingUnit);
    zero_.close_gradients(kEmbeddingUnit, last);
}

ArenaTensor Model::output(const MicroBatch& batch, ArenaTensor input) {
    const StepContext c = context(batch.num_sequences, batch.windows());
    ArenaTensor h = first_input(c, batch, std::move(input));
    for (std::int64_t layer = stage().first_layer; layer <= last_layer(); ++layer)
        layer_forward(c, layer, h, {});  // what the layer saved is released at once
    return h;
}

void Model::loss(const MicroBatch& batch, ConstTensor out, Tensor loss_sum) {
    open_head(kNone);
    head_loss(context(batch.num_sequences, batch.windows()), head_weights_of(weights_), loss_sum, out, batch.labels);
    close_head();
}

void Model::idle_loss() {
    open_head(kNone);
    close_head();
}

void Model::logits(ConstTensor out, Tensor logits) {
    open_head(kNone);
    head_logits(context(out.num_rows() / own_tokens_.count, windows_), head_weights_of(weights_), logits, out);
    close_head();
}

}  // namespace longlora
