// The planner's and the profiler's tables for people and scripts. What they show is planned by plan_mesh.h and
// plan_find.h.
#pragma once

#include "io/json.h"
#include "jobs/experiment/options.h"
#include "jobs/plan/find.h"
#include "kernels/recorder.h"

namespace longlora {

/// The mesh in a line, then rank `rank`'s memory, work and messages in full, then the step's time with its assumptions,
/// and whether all fits.
void print_plan(const TrainOptions& options, const PlanGoal& goal, const MeshPlan& plan, int rank);
/// One line for each planned rank.
void print_ranks(const MeshPlan& plan);
/// "--pipeline 1 --sequence 8 --zero 3 --micro-batch 1"
std::string options_text(const Spread& spread);
/// Meshes with memory, time and the options that ask for them.
void print_found(const TrainOptions& options, const std::vector<Found>& found);

/// {"machine", "mesh", "seconds", "fits", ..., "ranks": [{"rank", "bytes": {use: n}, "bytes_total", "flops", "traffic":
/// {axis: {"bytes", "messages"}}, "seconds", ...}]}; of the given ranks.
Json plan_json(const PlanGoal& goal, const MeshPlan& plan, const std::vector<int>& ranks);
Json found_json(const std::vector<Found>& found);

/// For `train`, whose step (of request.rank's stage) did not fit memory_bytes: the table of what it would take, on
/// stdout.
void print_misfit(const TrainOptions& options, const PlanRequest& request, std::int64_t memory_bytes,
                  const std::string& gpu);

/// FLOPs, bytes and seconds by operation, dearest first.
void print_profile(const Recorder& recorder, bool leads);

}  // namespace longlora
