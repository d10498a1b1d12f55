// What a training run opens before it can decide anything: the base model and the token files. Not here: the checkpoint
// to resume from (jobs/train/resume_source.h).
#pragma once

#include <memory>
#include <string>

#include "jobs/experiment/setup.h"
#include "jobs/process/watched_group.h"

namespace longlora {

/// Of the model's weights only the names, shapes and types are read. Their values are compared when they are loaded
/// (make_weights in jobs/experiment/setup.h).
struct Inputs {
    BaseModel base;
    std::unique_ptr<const DataOrder> order;
};

/// Opens the files. All ranks must have the same config.json, adapter_config.json and token files. Collective.
Inputs open_inputs(const parallel::HostGroup& group, const TrainOptions& options);
/// Closes the files of the base model, whose values are in use or copied by now.
void close_model_files(Inputs& inputs);

}  // namespace longlora
