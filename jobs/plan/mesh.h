// The step of a whole mesh, planned: of the ranks that can differ, memory against a machine's, and how long it takes.
// No printing (plan_report.h), no search (plan_find.h).
#pragma once

#include <vector>

#include "jobs/plan/time.h"

namespace longlora {

/// What a plan is for, beside the step itself.
struct PlanGoal {
    MachineModel machine;
    std::string recompute = "auto";
    std::int64_t memory_bytes = 0;  ///< --memory: what a rank's arena may take; 0: what the machine leaves
    std::int64_t free_host_bytes =
        0;  ///< of the computer that plans, all of it; for machines that do not say how much a node has
    int ranks_per_node = 1;     ///< where the machine does not say
    double cores_per_rank = 1;  ///< devices of the machine model that make one rank's
    bool exact = false;  ///< plan every micro-batch, unless that takes minutes: gaps in the arena may grow by a few
                         ///< percent with their number
};

/// Bytes used of what there is; limit 0: not known, or said to be no matter.
struct Balance {
    std::int64_t used = 0, limit = 0;
    bool fits() const { return limit == 0 || used <= limit; }
};

struct RankPlan {
    PlanRequest request;
    Stage stage;
    ActivationPlan activations;
    StepPlan step;
    std::int64_t snapshot_bytes = 0;  ///< host memory of a checkpoint being written
    RankTime time;
    Balance device;  ///< arena and what is outside of it
};

struct MeshPlan {
    std::vector<RankPlan> ranks;  ///< by rank
    double step_seconds = 0;
    Balance host;  ///< of the dearest node
    bool fits = false;
    std::string misfit;  ///< why not, and the way out
    /// The rank with the most device memory.
    const RankPlan& rank_with_most_memory() const;
};

/// The ranks of a mesh that can differ in memory or work, by rank: of stages with other numbers of layers, of the data
/// coordinates with the most and the fewest sequences, the first two and the last two of a sequence.
std::vector<int> representative_ranks(const PlanRequest& request);

/// plan_step for any number of micro-batches at the cost of a few: from the one that fills the pipeline on all are
/// alike, so what one more of them adds is added for those left out. What plan_step gives, exactly (FLOPs and seconds
/// within rounding), but for gaps in the arena.
StepPlan plan_many(const PlanRequest& request, const ActivationPlan& activations);

/// Fewer sequences for each rank: `micro_batches` full micro-batches.
PlanRequest shortened(const PlanRequest& request, std::int64_t micro_batches);
/// With the least memory: nothing stays, not even halos.
ActivationPlan keep_least(const ModelConfig& config);
/// What a rank's arena may take on this machine.
std::int64_t arena_limit(const PlanGoal& goal);
/// Of a checkpoint's snapshot: masters and moments of the rank's share of its stage.
std::int64_t snapshot_bytes(const PlanRequest& request);

/// Plans `ranks` of request.mesh (request.rank is not read). What does not fit is planned all the same, keeping the
/// least, and said in `misfit`.
MeshPlan plan_mesh(const PlanRequest& request, const PlanGoal& goal, const std::vector<int>& ranks);

}  // namespace longlora
