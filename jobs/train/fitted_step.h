// FittedStep: the computing type of a training run and what each layer keeps for its backward pass, chosen so that the
// step of every rank fits its memory. All of it is decided before a device exists, since a GPU's arena is allocated
// once. Not here: making the device (jobs/process/machine.h), and the plan of a step (src/train/plan.h).
#pragma once

#include <cstdint>
#include <string>

#include "jobs/experiment/setup.h"
#include "jobs/process/machine.h"

namespace longlora {

/// The step of this rank.
struct FittedStep {
    std::string dtype;       ///< --dtype, with auto decided
    WeightsOptions weights;  ///< without a communicator
    Stage stage;
    ActivationPlan activations;
    StepPlan plan;
    std::int64_t snapshot_bytes = 0;  ///< host memory for the snapshot of a checkpoint; 0: checkpoints do without one
    std::int64_t arena_bytes = 0, pinned_bytes = 0;  ///< memory of the device that is to be made
};

/// What this rank may use for training, the same kind of device on all ranks. Collective.
Resources find_resources(WatchedGroup& watched, const TrainOptions& options, const DeviceChoice& choice,
                         parallel::MeshShape shape);

/// Fits the step. resume_from: the checkpoint to resume from, whose computing type is kept; may be empty. An Error if
/// the step does not fit; rank 0 prints the table of what it would take. Collective.
FittedStep fit_step(WatchedGroup& watched, const TrainOptions& options, const BaseModel& base,
                    const Resources& resources, const std::string& resume_from);

}  // namespace longlora
