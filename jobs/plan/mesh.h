// Plans one step of a whole mesh: the memory of the ranks that can differ, compared with a machine's memory, and the
// time of the step. Printing is in jobs/plan/report.h, the search over meshes in jobs/plan/find.h.
#pragma once

#include <vector>

#include "jobs/plan/time.h"

namespace longlora {

/// The machine and the limits that a step is planned for.
struct PlanGoal {
    MachineModel machine;
    std::string recompute = "auto";
    std::int64_t memory_bytes = 0;  ///< --memory: limit of a rank's arena; 0: what the machine leaves free
    /// All free host memory of the computer that plans; used where the machine model has no node memory.
    std::int64_t free_host_bytes = 0;
    int ranks_per_node = 1;     ///< used where the machine model has no number of devices per node
    double cores_per_rank = 1;  ///< devices of the machine model that one rank uses
    /// Plan every micro-batch, unless that takes minutes. Gaps in the arena may grow by a few percent with the number
    /// of micro-batches, which a plan of a few micro-batches does not see.
    bool exact = false;
    std::function<void()> progress{};  ///< called again and again while a mesh is planned; may be empty
};

/// Bytes used and their limit; limit 0: the limit is not known or does not matter.
struct Balance {
    std::int64_t used = 0, limit = 0;
    bool fits() const { return limit == 0 || used <= limit; }
};

struct RankPlan {
    PlanRequest request;
    Stage stage;
    ActivationPlan activations;
    StepPlan step;
    std::int64_t snapshot_bytes = 0;  ///< host memory while a checkpoint is written
    RankTime time;
    Balance device;  ///< the arena and the memory outside of it
};

struct MeshPlan {
    std::vector<RankPlan> ranks;  ///< by rank
    double step_seconds = 0;
    Balance host;  ///< memory of the node that needs the most
    bool fits = false;
    std::string misfit;  ///< why the plan does not fit, and the way out
    /// The rank with the most device memory.
    const RankPlan& rank_with_most_memory() const;
};

/// The ranks of a mesh that can differ in memory or work, in ascending order: of each stage with another number of
/// layers, of data coordinate 0 and of those with the most and the fewest sequences, the first two and the last two
/// sequence ranks.
std::vector<int> representative_ranks(const PlanRequest& request);

/// plan_step for any number of micro-batches at the cost of a few. Once the pipeline is full, every further micro-batch
/// adds the same, so this function plans a few and adds that amount for each one left out. The result equals
/// plan_step's (FLOPs and seconds within rounding), except for gaps in the arena.
StepPlan plan_many(const PlanRequest& request, const ActivationPlan& activations);

/// `request` with at most `micro_batches` full micro-batches for each rank.
PlanRequest shortened(const PlanRequest& request, std::int64_t micro_batches);
/// The activation plan with the least memory: no layer keeps anything for backward, not even its halo.
ActivationPlan keep_least(const ModelConfig& config);
/// The bytes that a rank's arena may take on this machine.
std::int64_t arena_limit(const PlanGoal& goal);
/// The bytes of a checkpoint's snapshot: masters and moments of the rank's share of its stage.
std::int64_t snapshot_bytes(const PlanRequest& request);

/// Plans `ranks` of request.mesh; request.rank is not read. A rank that does not fit is planned too, with the least
/// activations kept (with everything for --recompute none), and `misfit` says why.
MeshPlan plan_mesh(const PlanRequest& request, const PlanGoal& goal, const std::vector<int>& ranks);

}  // namespace longlora
