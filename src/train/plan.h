// plan: the training step itself, run for any rank on a device that computes nothing: bytes by use, FLOPs, messages -
// before any cost. Also the judge of what --recompute auto may keep.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "train/step.h"

namespace longlora {

/// What is to be trained, from config.json alone, and the rank that is planned.
struct PlanRequest {
    ModelConfig config;
    TrainableSet trainables;
    WeightsOptions weights;  ///< `data` is not read: a plan communicator takes its place
    AttentionPattern pattern;
    std::int64_t context = 0;
    StepOptions step;
    parallel::MeshShape mesh;
    int rank = 0;
    bool offload_activations = false;
    std::int64_t own_bytes = 0;     ///< what the device takes of its arena for itself (cuda_own_bytes()); 0 for a CPU
    OperationSeconds seconds_of{};  ///< fills the seconds of the plan's records; may be empty
};

struct StepPlan {
    std::int64_t arena_bytes = 0;  ///< high-water mark of the device arena
    std::int64_t pinned_bytes = 0;
    std::array<std::int64_t, kNumUses> by_use{};  ///< at the peak
    Recorder recorder;                            ///< operations of one step on this rank
    std::map<std::string, parallel::TrafficByUnit>
        traffic_by_unit;  ///< of one step on this rank, by axis and unit (0 embedding, layer + 1, L + 1 head, -1 none)
    std::map<std::string, parallel::Traffic> traffic;  ///< all units together
};

/// One step with the given keep plan.
StepPlan plan_step(const PlanRequest& request, const ActivationPlan& activations);

/// "all": keeps nothing, "none": everything, "auto": as much as memory_bytes allow, dearest first: halos (sent again
/// otherwise, also kept with "all"), attention output and lse, the residual stream between the halves, q/k/v, gate/up;
/// for as many layers as fit. Throws Error(does_not_fit) when even keeping nothing does not fit, or with "none"
/// everything. The answer fits every rank of request.rank's stage and is the same for all of them (ranks that share a
/// sequence must recompute alike).
ActivationPlan choose_activations(const PlanRequest& request, const std::string& mode, std::int64_t memory_bytes);
/// "attention 30, mid 30, q/k/v 12, gate/up 0 of 30 layers", of the stage's layers.
std::string to_text(const ActivationPlan& activations, const Stage& stage);
/// The stage of rank `rank`.
Stage stage_of(const PlanRequest& request, int rank);

}  // namespace longlora
