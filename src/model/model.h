// Model: the forward and backward pass of a micro-batch through the layers of this rank's pipeline stage.
// ActivationPlan says what the layers keep in between. Not here: the order of micro-batches and stages, updates and
// schedules (src/train).
#pragma once

#include <optional>
#include <vector>

#include "model/activation_offload.h"
#include "model/attention_block.h"
#include "model/head.h"
#include "model/micro_batch.h"
#include "model/mlp_block.h"
#include "model/rotary.h"
#include "model/zero.h"
#include "parallel/kv_exchange.h"

namespace longlora {

/// What each layer keeps from forward for backward; one entry for every layer of the whole model.
using ActivationPlan = std::vector<KeptActivations>;
ActivationPlan keep_nothing(const ModelConfig& config);
ActivationPlan keep_everything(const ModelConfig& config);

/// What a layer leaves for its backward pass.
struct LayerSaved {
    ArenaTensor h;  ///< the layer's input (T,D); empty while it waits in stored_h
    ActivationOffload::Stored stored_h;
    AttentionSaved attention;
    MlpSaved mlp;
};
/// What a stage leaves for its backward pass: its layers in order, and its output.
struct StageSaved {
    std::vector<LayerSaved> layers;
    ArenaTensor out;  ///< (T,D)
};

/// Works on the stage of its weights. Every function that reads weights is collective over the ranks that share these
/// weights (at ZeRO 3) and over the ranks that share a sequence. A data rank without a sequence calls the idle
/// function of the same name instead.
class Model {
public:
    /// `weights` must outlive the model. context_length: N, the tokens per sequence, over all ranks of `sequence`
    /// (nullptr: this rank alone). offload: the inputs of layers wait for backward in pinned host memory. They come
    /// back one layer ahead, and no bit of a result changes. rules: exchange_rules_of() this pattern, if the caller has
    /// them already; empty: the model finds them.
    Model(Weights& weights, const AttentionPattern& pattern, std::int64_t context_length,
          parallel::Communicator* sequence = nullptr, bool offload = false,
          std::vector<parallel::ExchangeRules> rules = {});

    Weights& weights() { return weights_; }
    Zero& zero() { return zero_; }
    Device& device() const { return weights_.device(); }
    const ModelConfig& config() const { return weights_.config(); }
    const Stage& stage() const { return weights_.stage(); }
    const AttentionPattern& pattern() const { return pattern_; }
    std::int64_t context_length() const { return context_length_; }
    /// This rank owns tokens [begin, begin + count) of every sequence.
    parallel::Shard own_tokens() const { return own_tokens_; }
    /// A new tensor (T, D) for the activations of `num_sequences` sequences, as they travel between stages.
    ArenaTensor stage_input(std::int64_t num_sequences) const;

    /// tokens, labels: this rank's part of each sequence, one sequence after another. document_starts: where
    /// documents begin in each whole sequence, or empty for no document mask.
    MicroBatch micro_batch(std::span<const std::int32_t> tokens, std::span<const std::int32_t> labels,
                           const std::vector<std::vector<std::int64_t>>& document_starts = {});

    /// input: the output of the previous stage; empty on the first stage, which embeds the tokens.
    StageSaved forward(const MicroBatch& batch, ArenaTensor input, const ActivationPlan& activations);
    /// For the last stage. loss_sum (float64 scalar) += sum of the negative log likelihoods of the batch's labels.
    /// Returns the gradient of scale * sum with respect to the stage's output. Releases that output, and adds to the
    /// gradients of the head. last: no further micro-batch follows in this step.
    ArenaTensor loss_gradient(const MicroBatch& batch, StageSaved& saved, Tensor loss_sum, float scale, bool last);
    /// d_out: the gradient of the stage's output. Adds to the gradients of all trainables of the stage; returns the
    /// gradient of the stage's input (empty on the first stage).
    ArenaTensor backward(const MicroBatch& batch, StageSaved& saved, ArenaTensor d_out, bool last);
    void idle_forward();
    void idle_loss_gradient(bool last);
    void idle_backward(bool last);

    /// Forward that keeps nothing for backward.
    ArenaTensor output(const MicroBatch& batch, ArenaTensor input);
    /// For the last stage: loss_sum += the loss of its output.
    void loss(const MicroBatch& batch, ConstTensor out, Tensor loss_sum);
    void idle_loss();
    /// For the last stage: logits (T,V), float32, of its output.
    void logits(ConstTensor out, Tensor logits);

private:
    StepContext context(std::int64_t num_sequences, const WindowsTable& windows) const;
    int sequence_rank() const { return sequence_ ? sequence_->rank() : 0; }
    ArenaTensor first_input(const StepContext& context, const MicroBatch& batch, ArenaTensor input);
    bool goes_away(std::int64_t layer) const;
    void fetch_input(StageSaved& saved, std::int64_t layer);
    LayerSaved layer_forward(const StepContext& context, std::int64_t layer, ArenaTensor& h,
                             const KeptActivations& kept);
    void layer_backward(const StepContext& context, std::int64_t layer, Tensor d_h, LayerSaved& saved);
    std::int64_t last_layer() const { return stage().first_layer + stage().num_layers - 1; }
    bool shares_table() const { return config().tied; }
    void open_head(std::int64_t next);
    void close_head();
    void open_head_gradients();
    void close_head_gradients(bool last);
    std::int64_t after(std::int64_t layer) const;

    Weights& weights_;
    Zero zero_;
    AttentionPattern pattern_;
    std::int64_t context_length_;
    parallel::Communicator* sequence_;
    parallel::Shard own_tokens_;
    ArenaTensor cos_, sin_;
    std::vector<parallel::ExchangeRules> exchange_rules_;
    WindowsTable windows_;
    std::optional<ActivationOffload> offload_;
    Uploads uploads_;
};

}  // namespace longlora
