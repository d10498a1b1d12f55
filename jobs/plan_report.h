// The planner's and the profiler's tables for people and scripts.
#pragma once

#include "dist/host_group.h"
#include "jobs/train_options.h"
#include "kernels/recorder.h"

namespace longlora {

/// Plans the step of `options` for this job's ranks and prints it from rank 0; exit code 3 when it does not fit --memory.
/// ranks, rank: what to plan for (0, 0: the job's own size, rank 0). json: also a file for scripts ("" = none).
int report_plan(const TrainOptions& options, const dist::HostGroup& group, int ranks = 0, int rank = 0, const std::string& json = "");

/// FLOPs, bytes and seconds by operation, dearest first.
void print_profile(const Recorder& recorder, bool leads);

}  // namespace longlora
