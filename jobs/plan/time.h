// Estimates how long a planned step takes on a machine model. These are estimates with the assumptions below, not
// measurements. What a step does is planned in src/train/plan.h.
//
// One operation takes
//     max(FLOPs / (peak * fraction), bytes / (bandwidth * fraction)):
// matrix products and attention have fractions of their own; every other operation is estimated by its bytes alone.
//
// A copy between device and host memory (offloaded activations) takes
//     bytes / bandwidth of that link.
// Its whole time counts, although other operations hide most of it.
//
// The messages of an axis take
//     messages * latency + bytes / bandwidth
// over the links inside a node or between nodes that the axis crosses. Both directions run at once. Operations that run
// meanwhile hide this time; the rest is exposed:
//     sequence   hidden by the attention operations: a rank computes with its own keys while others' keys travel
//     data       ZeRO 3: by all operations, as each unit is gathered while the one before it computes
//                ZeRO 2: by the backward passes
//                ZeRO 0 and 1: by the last backward pass
//                ZeRO 1 and 2: nothing hides the gathering of the updated weights
//     pipeline   by all operations
// Each axis is estimated as if the others sent nothing.
//
// A step lasts as long as its slowest stage works, plus the time of one micro-batch and its messages on each other
// stage, to fill and drain the pipeline (parallel/pipeline_schedule.h).
//
// Not counted: kernel launches, reading data, checkpoints, and waiting for ranks that are slower than planned.
#pragma once

#include <vector>

#include "jobs/plan/machine_model.h"
#include "train/plan.h"

namespace longlora {

/// The seconds that one rank works in a step.
struct RankTime {
    double compute = 0;  ///< all operations
    double exposed = 0;  ///< messages that no operation hides
    double fill = 0;     ///< one micro-batch of this stage, with its messages to other stages
    double busy() const { return compute + exposed; }
};

/// The function for PlanRequest::seconds_of: the seconds of one operation.
OperationSeconds operation_seconds(const MachineModel& machine, DType real, double cores_per_rank);

/// The time of one rank. `step` must be planned with PlanRequest::seconds_of, so that its records have seconds.
RankTime rank_time(const MachineModel& machine, const PlanRequest& request, const StepPlan& step);

/// Micro-batches of a step. Every rank has as many as the rank with the most sequences needs.
std::int64_t micro_batches_of(const StepOptions& step, parallel::MeshShape mesh);

/// The seconds of a whole step; `stages` has the time of the slowest rank of each stage.
double step_seconds(const std::vector<RankTime>& stages);

}  // namespace longlora
