// Model: the layers of this rank in order, forward and backward over a micro-batch. It reads as the paper; what is kept in between is KeepPlan.
// Not here: updates, schedules, communication (src/train).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "model/attention_block.h"
#include "model/head.h"
#include "model/micro_batch.h"
#include "model/mlp_block.h"
#include "model/rotary.h"

namespace longlora {

/// What each layer keeps from forward for backward.
using KeepPlan = std::vector<LayerKeep>;
KeepPlan keep_nothing(const ModelConfig& config);
KeepPlan keep_everything(const ModelConfig& config);

/// Views into Weights and rotary tables on the device for one context length.
class Model {
public:
    /// `weights` must outlive the model. `context_length`: tokens per sequence, of which rotary tables are made.
    Model(Weights& weights, const AttentionPattern& pattern, std::int64_t context_length);

    Weights& weights() { return weights_; }
    Device& device() { return weights_.device(); }
    const ModelConfig& config() const { return weights_.config(); }
    const AttentionPattern& pattern() const { return pattern_; }
    std::int64_t context_length() const { return context_length_; }
    const std::vector<std::vector<DeviceWindows>>& windows() const { return windows_; }

    /// loss_sum (float64 scalar) += sum of the negative log likelihoods of the batch's labels.
    void loss(const MicroBatch& batch, Tensor loss_sum);
    /// The same, and adds the gradient of scale * sum to every trainable's. unit_done(unit): called when a unit's gradients of this micro-batch are
    /// whole, from the last unit to unit 0; may be empty.
    void loss_and_gradients(const MicroBatch& batch, Tensor loss_sum, float scale, const KeepPlan& keep, const std::function<void(std::int64_t unit)>& unit_done);
    /// logits (T,V) float32.
    void logits(const MicroBatch& batch, Tensor logits);

private:
    struct Layer {
        AttentionWeights attention;
        MlpWeights mlp;
    };
    struct LayerSaved {
        ArenaTensor h;   ///< the layer's input (T,D)
        AttentionSaved attention;
        MlpSaved mlp;
    };
    StepContext context(const MicroBatch& batch);
    ArenaTensor embed(const StepContext& context, const MicroBatch& batch);
    ArenaTensor forward_only(const StepContext& context, const MicroBatch& batch);
    LayerSaved layer_forward(const StepContext& context, std::int64_t layer, ArenaTensor& h, const LayerKeep& keep);
    void layer_backward(const StepContext& context, std::int64_t layer, Tensor d_h, LayerSaved& saved);

    Weights& weights_;
    AttentionPattern pattern_;
    std::int64_t context_length_;
    std::vector<Layer> layers_;
    HeadWeights head_;
    ArenaTensor cos_, sin_;
    std::vector<std::vector<DeviceWindows>> windows_;
};

}  // namespace longlora
