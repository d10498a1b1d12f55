// One AdamW update of the trainables that this rank owns, with a learning rate for each parameter group. Ops::adamw
// (kernels/ops.h) has the formula, schedule.h the schedules; Zero::share_update sends the result to the other ranks.
#pragma once

#include "model/weights.h"

namespace longlora {

struct OptimizerOptions {
    double lr = 2e-5;  ///< LoRA, projections, lm_head
    double lr_embedding = 2e-5, lr_norm = 2e-5;
    double weight_decay = 0;  ///< decoupled; never applied to norms
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
};

/// lr_factor: the schedule's factor for every learning rate at this step. scale: a float32 scalar on the device
/// (Ops::clip_scale); if it is NaN, nothing changes. step counts from 1. Also rounds the owned part of the weights.
void optimizer_step(Weights& weights, const OptimizerOptions& options, double lr_factor, std::int64_t step,
                    ConstTensor scale);

}  // namespace longlora
