// From option values to what is trained: model, data, weights, and the request to plan a step. jobs/train and jobs/plan
// call these functions.
#pragma once

#include <memory>
#include <optional>

#include "jobs/experiment/options.h"
#include "model/adapter.h"
#include "train/data_order.h"
#include "train/plan.h"

namespace longlora {

/// The base model as its files describe it, extended to the run's context.
struct BaseModel {
    ModelConfig config;                      ///< with the rope scaling for the run's context
    std::optional<SafetensorsFolder> files;  ///< none with --init
    std::optional<Adapter> adapter;
    TrainableSet trainables;
};

/// Reads config.json, maps the weights and opens the adapter. Without with_weights the weights are not opened (plan).
BaseModel open_base_model(const TrainOptions& options, bool with_weights);
/// Throws an Error if the user gave a --rope-factor that is too small for the context (the model would be trained on
/// positions that its configuration, and so its export, does not cover), or parameters of a scaling that the context
/// does not need. extended: the config of open_base_model.
void check_rope_for_context(const TrainOptions& options, const ModelConfig& extended);
std::unique_ptr<DataOrder> open_data(const TrainOptions& options, const ModelConfig& config);

AttentionPattern pattern_of(const TrainOptions& options);
StepOptions step_options_of(const TrainOptions& options);
/// A stage's weights, filled from the base model or from the seed. Reads only what this rank keeps.
std::unique_ptr<Weights> make_weights(Device& device, const BaseModel& base, const WeightsOptions& weights_options,
                                      const Stage& stage, std::int64_t seed);
/// What src/train/plan.h needs to plan the step of rank `rank` of the mesh.
PlanRequest plan_request(const TrainOptions& options, const BaseModel& base, const WeightsOptions& weights_options,
                         parallel::MeshShape mesh, int rank);

}  // namespace longlora
