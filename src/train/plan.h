// Plans a training step: runs the step itself for any rank on a device that computes nothing, and counts bytes by use,
// FLOPs and messages. It also decides what --recompute auto keeps. Times, whole meshes and tables: jobs/plan.
#pragma once

#include <array>
#include <cstdint>
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
    std::int64_t own_bytes = 0;     ///< of the arena for the device itself (cuda_own_bytes()); 0 for a CPU
    OperationSeconds seconds_of{};  ///< fills the seconds in the plan's records; may be empty
};

struct StepPlan {
    std::int64_t arena_bytes = 0;  ///< high-water mark of the device arena
    std::int64_t pinned_bytes = 0;
    std::array<std::int64_t, kNumUses> by_use{};  ///< at the peak
    Recorder recorder;                            ///< operations of one step on this rank
    /// What this rank sends in one step, by axis and unit (0 embedding, layer + 1, L + 1 head, -1 none).
    std::map<std::string, parallel::TrafficByUnit> traffic_by_unit;
    std::map<std::string, parallel::Traffic> traffic;  ///< all units together
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
/// "attention 30, mid 30, q/k/v 12, gate/up 0 of 30 layers"; counts the layers of the stage.
std::string to_text(const ActivationPlan& activations, const Stage& stage);
/// The stage of rank `rank`.
Stage stage_of(const PlanRequest& request, int rank);

}  // namespace longlora
