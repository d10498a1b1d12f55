// A model to be used, not trained, from whatever holds it: a folder, a folder with an adapter, or a checkpoint with its
// base model. Opening checks; the weights come later, on a device. Each function can fail on one rank alone, so callers
// run it inside agree().
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "io/json.h"
#include "model/adapter.h"

namespace longlora {

/// Option values. Either `model` (and perhaps `adapter`) or `checkpoint` (and perhaps `model`: where its base model
/// lies now).
struct ModelPlaces {
    std::string model, adapter, checkpoint;  ///< checkpoint: a file, or a run folder (its newest)
};

struct ModelSource {
    ModelConfig config;       ///< as it is computed: the adapter's or checkpoint's own, with what --rope asks for
    TrainableSet trainables;  ///< so that LoRA, if any, has its place
    std::string model_path, checkpoint_path;  ///< the weights' folder and the checkpoint's file; either may be empty
    std::string expected_hash;                ///< of the base model that the checkpoint was trained from; "" = any
    std::optional<SafetensorsFolder> files;   ///< none when the checkpoint holds every parameter
    std::optional<Adapter> adapter;
    Json attributes;  ///< the checkpoint's
};

/// Refuses combinations that say too little or too much.
void check_places(const ModelPlaces& places);
ModelSource open_model_source(const ModelPlaces& places, const RopeRequest& rope);
/// Reads every byte of the base model: one rank does it for all. Refuses another base model than the checkpoint's. ""
/// without a base model. progress: called after each tensor.
std::string base_model_hash(const ModelSource& source, const std::function<void()>& progress = {});
/// Of an adapter's values; "" without one.
std::string adapter_hash(const ModelSource& source);
/// How the weights are kept for computing in `real`; no gradients, no moments.
WeightsOptions weights_options_of(const ModelSource& source, DType real);
/// A stage's weights with all values in place.
std::unique_ptr<Weights> load_weights(Device& device, const ModelSource& source, const WeightsOptions& weights_options,
                                      const Stage& stage);

}  // namespace longlora
