// plan: the training step itself, run for any rank on a device that computes nothing: bytes by use, FLOPs, messages - before any cost.
// Also the judge of what --recompute auto may keep.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "train/step.h"

namespace longlora {

/// What is to be trained, from config.json alone.
struct PlanRequest {
    ModelConfig config;
    TrainableSet trainables;
    WeightsOptions weights;
    AttentionPattern pattern;
    std::int64_t context = 0;
    StepOptions step;
    int rank = 0, ranks = 1;   ///< data parallel
};

struct StepPlan {
    std::int64_t arena_bytes = 0;                    ///< high-water mark of the device arena
    std::int64_t pinned_bytes = 0;
    std::array<std::int64_t, kNumUses> by_use{};     ///< at the peak
    double flops = 0;                                ///< of one step on this rank
    dist::Traffic traffic;                           ///< of one step on this rank
};

/// One step with the given keep plan.
StepPlan plan_step(const PlanRequest& request, const KeepPlan& keep);

/// "all": keeps nothing, "none": everything, "auto": as much as memory_bytes allow, dearest to recompute first: attention output and lse, the
/// residual stream between the halves, q/k/v, gate/up; for as many layers as fit. Throws Error(does_not_fit) when even keeping nothing does not fit, or with "none" everything.
KeepPlan choose_keep(const PlanRequest& request, const std::string& mode, std::int64_t memory_bytes);
/// "attention 30, mid 30, q/k/v 12, gate/up 0 of 30 layers".
std::string to_text(const KeepPlan& keep);

}  // namespace longlora
