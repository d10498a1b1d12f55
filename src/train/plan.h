// Plans a training step: runs the step itself for any rank on a device that computes nothing, and counts bytes by use,
// FLOPs and messages. It also decides what --recompute auto keeps. Times, whole meshes and tables: jobs/plan.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "train/step.h"

namespace longlora {

/// What is trained, as far as config.json and the options tell it, and the rank that is planned.
struct PlanRequest {
    ModelConfig config;
    TrainableSet trainables;
    WeightsOptions weights;  ///< `data` is ignored: a plan communicator takes its place
    AttentionPattern pattern;
    std::int64_t context = 0;
    StepOptions step;
    parallel::MeshShape mesh;
    int rank = 0;
    bool offload_activations = false;
    std::int64_t own_bytes = 0;        ///< of the arena for the device itself (cuda_own_bytes()); 0 for a CPU
    OperationSeconds seconds_of{};     ///< fills the seconds in the plan's records; may be empty
    std::function<void()> progress{};  ///< called again and again while a step is planned; may be empty
    /// Run every round, every micro-batch and every rank, even if it repeats others (parallel/plan_repetition.h,
    /// train/distinct_ranks.h). The plan is the same; tests compare.
    bool whole = false;
};

struct StepPlan {
    std::int64_t arena_bytes = 0;  ///< high-water mark of the device arena
    std::int64_t pinned_bytes = 0;
    std::array<std::int64_t, kNumUses> by_use{};  ///< at the peak
    Recorder recorder;                            ///< operations of one step on this rank
    /// What this rank sends in one step, by axis and unit (0 embedding, layer + 1, L + 1 head, -1 none).
    std::map<std::string, parallel::TrafficByUnit> traffic_by_unit;
    std::map<std::string, parallel::Traffic> traffic;  ///< all units together
    std::int64_t num_tensors = 0;                      ///< tensors made in the arena: what the plan itself costs
};

/// Plans one step that keeps these activations.
StepPlan plan_step(const PlanRequest& request, const ActivationPlan& activations);

/// Chooses what to keep. mode is the value of --recompute: "all" keeps halos alone, "none" keeps everything, "auto"
/// keeps as much as memory_bytes allow. Items are kept in this order, each for as many layers as fit: halos (which are
/// sent again otherwise), attention output and lse, the residual stream between the two halves of a layer, q/k/v,
/// gate/up. With "all", halos are given up too if they do not fit. Throws Error(does_not_fit) if the step does not fit
/// even when it keeps nothing, or with "none" when it keeps everything. The answer fits every rank of the stage of
/// request.rank and is the same for all of them, since ranks that share a sequence must recompute alike.
ActivationPlan choose_activations(const PlanRequest& request, const std::string& mode, std::int64_t memory_bytes);

/// Runs `work` on every rank of the mesh and gives the results by rank. If it throws on a rank, all ranks throw.
/// Collective.
using GatherNumbers = std::function<std::vector<std::int64_t>(const std::function<std::int64_t()>& work)>;
/// choose_activations for the ranks of a running job: each rank plans only itself, and all ranks of a stage keep what
/// fits the one with the least room. Collective over the mesh; if the step of any stage does not fit, all ranks throw.
ActivationPlan choose_together(const PlanRequest& request, const std::string& mode, std::int64_t memory_bytes,
                               const GatherNumbers& gather);
/// "attention 30, mid 30, q/k/v 12, gate/up 0 of 30 layers"; counts the layers of the stage.
std::string to_text(const ActivationPlan& activations, const Stage& stage);
/// The stage of rank `rank`.
Stage stage_of(const PlanRequest& request, int rank);

}  // namespace longlora
