// What a run records about itself: its options by class, the attributes of its checkpoints, its manifest. These
// functions only compose values; jobs/train/begin_in_folder.h writes the manifest, src/train/checkpoint.h the
// checkpoints.
#pragma once

#include "jobs/train/fitted_step.h"
#include "jobs/train/inputs.h"
#include "run/option_check.h"

namespace longlora {

struct RunRecord {
    OptionClasses options;  ///< with the decided dtype, and the hashes of the files that the options name
    Json attributes;        ///< of checkpoints
};

/// environment: jobs/process/environment.h.
RunRecord run_record(const TrainOptions& options, const Inputs& inputs, const ModelContent& model,
                     const FittedStep& step, const Json& environment);

/// manifest.json: the attributes of checkpoints, and what is only worth to be known about this start.
Json manifest_of(const RunRecord& record, const TrainOptions& options, const Inputs& inputs, const ModelContent& model,
                 const FittedStep& step, parallel::MeshShape shape);

}  // namespace longlora
