// Prints the tables of the planner and of the profiler, and makes the planner's JSON. jobs/plan/README.md explains the
// words in the tables. The plans are made in jobs/plan/mesh.h and jobs/plan/find.h.
#pragma once

#include "io/json.h"
#include "jobs/experiment/options.h"
#include "jobs/plan/find.h"
#include "kernels/recorder.h"

namespace longlora {

/// Prints the mesh in a line, all of rank `rank`'s memory, work and messages, the step's time with its assumptions, and
/// whether the plan fits.
void print_plan(const TrainOptions& options, const PlanGoal& goal, const MeshPlan& plan, int rank);
/// Prints one line for each planned rank.
void print_ranks(const MeshPlan& plan);
/// "--pipeline 1 --sequence 8 --zero 3 --micro-batch 1"
std::string options_text(const MeshChoice& choice);
/// Prints one line for each mesh: its time, memory and options.
void print_found(const TrainOptions& options, const std::vector<Found>& found);

/// The plan of the given ranks:
///     {"machine", "mesh", "seconds", "fits", ...,
///      "ranks": [{"rank", "bytes": {use: n}, "bytes_total", "flops", "traffic": {axis: {"bytes", "messages"}},
///                 "seconds", ...}]}
Json plan_json(const PlanGoal& goal, const MeshPlan& plan, const std::vector<int>& ranks);
Json found_json(const std::vector<Found>& found);

/// For `train`, whose step (of request.rank's stage) did not fit memory_bytes: prints the table of what the step would
/// take. `gpu` is the name of the rank's GPU; empty on a CPU.
void print_misfit(const TrainOptions& options, const PlanRequest& request, std::int64_t memory_bytes,
                  const std::string& gpu);

/// Prints FLOPs, bytes and seconds by operation, the slowest first, if `leads`.
void print_profile(const Recorder& recorder, bool leads);

}  // namespace longlora
