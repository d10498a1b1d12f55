// What an evaluation opens before it plans its memory: the model's files, the texts and their windows.
#pragma once

#include <string>
#include <vector>

#include "jobs/evaluate/options.h"
#include "jobs/process/watched_group.h"

namespace longlora {

struct EvaluationInputs {
    ModelSource source;
    Stage stage;  ///< of this rank
    TokenFiles files;
    std::vector<WindowList> lists;  ///< by measurement
};

/// Opens model and texts, and lists the windows. All ranks must have the same config.json, adapter_config.json,
/// checkpoint and token files; the values of model and adapter are compared when they are loaded. Collective.
EvaluationInputs open_evaluation_inputs(const parallel::HostGroup& group, const EvaluateOptions& options,
                                        const std::vector<Measurement>& measurements, parallel::MeshShape shape);

}  // namespace longlora
