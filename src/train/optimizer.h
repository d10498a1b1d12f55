// One AdamW update of the trainables that this rank owns, with a learning rate per parameter group. The formula is
// Ops::adamw; schedules are schedule.h, and the others learn of it by Zero::share_update.
#pragma once

#include "model/weights.h"

namespace longlora {

struct OptimizerOptions {
    double lr = 2e-5;  ///< LoRA, projections, lm_head
    double lr_embedding = 2e-5, lr_norm = 2e-5;
    double weight_decay = 0;  ///< decoupled; not applied to norms, as is usual
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
};

/// lr_factor: what the schedule makes of every learning rate at this step. scale: float32 scalar on the device
/// (Ops::clip_scale); NaN changes nothing. step counts from 1. Also rounds the owned part of the weights.
void optimizer_step(Weights& weights, const OptimizerOptions& options, double lr_factor, std::int64_t step,
                    ConstTensor scale);

}  // namespace longlora
