// The source of a model that is used, not trained: a model folder, a model folder with an adapter, or a checkpoint with
// its base model. open_model_source() only checks; load_weights() later reads the weights into a device. Each function
// can fail on one rank alone, so callers run it inside parallel::agree(). The source of a training is in
// jobs/experiment/setup.h.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "io/json.h"
#include "model/adapter.h"

namespace longlora {

/// The values of --model, --adapter and --checkpoint: either `model`, with or without `adapter`, or `checkpoint`, with
/// or without `model` (the folder of its base model now).
struct ModelPaths {
    std::string model, adapter, checkpoint;  ///< open_model_source() needs a checkpoint's file, not a run folder
};

struct ModelSource {
    ModelConfig config;                       ///< from the model, adapter or checkpoint; --rope has changed it
    TrainableSet trainables;                  ///< names the LoRA matrices, if any
    std::string model_path, checkpoint_path;  ///< base model's folder, checkpoint file; either may be empty
    std::string expected_hash;                ///< hash of the checkpoint's base model; "": any
    std::optional<SafetensorsFolder> files;   ///< none if the checkpoint holds every parameter
    std::optional<Adapter> adapter;
    Json attributes;  ///< attributes of the checkpoint
};

/// Throws an Error if the values name no model or more than one.
void check_places(const ModelPaths& places);
ModelSource open_model_source(const ModelPaths& places, const RopeRequest& rope);
/// The hash of the base model; "" without one. It reads every byte, so one rank calls it for all. Throws an Error if
/// the base model is not the one that the checkpoint was trained from. Calls `progress` after each tensor.
std::string base_model_hash(const ModelSource& source, const std::function<void()>& progress = {});
/// The hash of the adapter's values; "" without an adapter.
std::string adapter_hash(const ModelSource& source);
/// Options of weights that compute in type `real`, without gradients and moments.
WeightsOptions weights_options_of(const ModelSource& source, DType real);
/// Makes the weights of a stage and reads all their values.
std::unique_ptr<Weights> load_weights(Device& device, const ModelSource& source, const WeightsOptions& weights_options,
                                      const Stage& stage);

}  // namespace longlora
