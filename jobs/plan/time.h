// How long a planned step takes on a machine model: an estimate with its assumptions, never a measurement. What a step
// does is src/train/plan.h.
//
// One operation      max(FLOPs / (peak * fraction), bytes / (bandwidth * fraction)): matrix products and attention by
// their own fractions, the rest by its bytes. Copies             with the host's memory (activations that wait there):
// bytes / bandwidth of that link, as if no operation hid them, though most of them are. Messages           per axis:
// messages * latency + bytes / bandwidth, over the links inside a node or between nodes that the axis crosses; both
// directions at once. What hides them    sequence: the attention operations (own keys are computed while others'
// travel).
//                    data: ZeRO 3 all operations (units are gathered one ahead), ZeRO 2 backward passes, ZeRO 0 and 1
//                    the last backward pass; the gathering of updated weights (ZeRO 1 and 2) is never hidden. pipeline:
//                    all operations. What is not hidden is exposed. Axes do not disturb each other.
// Pipeline           a step lasts as long as its slowest stage works, plus one micro-batch of each other stage to fill
// and to drain (parallel/pipeline_schedule.h), plus
//                    its messages then.
// Not counted: launches, reading data, checkpoints, waiting for slower ranks than planned.
#pragma once

#include <vector>

#include "jobs/plan/machine_model.h"
#include "train/plan.h"

namespace longlora {

/// One rank's own work in a step, seconds.
struct RankTime {
    double compute = 0;  ///< operations
    double exposed = 0;  ///< messages that nothing hides
    double fill = 0;     ///< one micro-batch of this stage, with its message to the next
    double busy() const { return compute + exposed; }
};

/// For Recorder::seconds_of: what one operation takes.
OperationSeconds operation_seconds(const MachineModel& machine, DType real, double cores_per_rank);

/// seconds of its records must be filled (PlanRequest::seconds_of).
RankTime rank_time(const MachineModel& machine, const PlanRequest& request, const StepPlan& step);

/// Micro-batches of a step: as many on every rank as the one with the most sequences needs.
std::int64_t micro_batches_of(const StepOptions& step, parallel::MeshShape mesh);

/// stages: for each stage its slowest rank's time.
double step_seconds(const std::vector<RankTime>& stages);

}  // namespace longlora
