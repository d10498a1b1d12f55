// From option values to the things that train: model, data, device, weights. Each step is agreed on by all ranks. What
// is done with them is train.cpp.
#pragma once

#include <memory>
#include <optional>

#include "jobs/experiment/options.h"
#include "model/adapter.h"
#include "train/data_order.h"
#include "train/plan.h"

namespace longlora {

/// The base model as its files say, and what it is extended to.
struct BaseModel {
    ModelConfig config;                      ///< extended to the run's context
    std::optional<SafetensorsFolder> files;  ///< none with --init
    std::optional<Adapter> adapter;
    TrainableSet trainables;
};

/// Reads config.json, maps the weights, opens the adapter. with_weights: false reads config.json alone (plan).
BaseModel open_base_model(const TrainOptions& options, bool with_weights);
std::unique_ptr<DataOrder> open_data(const TrainOptions& options, const ModelConfig& config);

AttentionPattern pattern_of(const TrainOptions& options);
StepOptions step_options_of(const TrainOptions& options);
/// A stage's weights filled from the base model, or from the seed: of the files only what this rank keeps is read.
std::unique_ptr<Weights> make_weights(Device& device, const BaseModel& base, const WeightsOptions& weights_options,
                                      const Stage& stage, std::int64_t seed);
/// What plan needs to run the step of rank `rank` of the mesh.
PlanRequest plan_request(const TrainOptions& options, const BaseModel& base, const WeightsOptions& weights_options,
                         parallel::MeshShape mesh, int rank);

}  // namespace longlora
