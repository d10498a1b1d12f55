// One training step: gradients of the rank's sequences, their sums over ranks, clipping, update. Start reading here.
// Not here: which sequences (data_order.h), micro-batches through the stages (pipeline.h), the loop around it
// (trainer.h).
#pragma once

#include <cstdint>
#include <vector>

#include "model/model.h"
#include "parallel/mesh_communicators.h"
#include "train/batch.h"
#include "train/optimizer.h"

namespace longlora {

struct StepOptions {
    std::int64_t global_batch = 64;  ///< sequences per update over all ranks
    std::int64_t micro_batch = 1;    ///< sequences per forward on a rank
    double clip = 1;                 ///< largest gradient norm; <= 0: no clipping
    bool document_mask = false;      ///< tokens see their own document alone; Batch says where documents begin
    OptimizerOptions optimizer;
};

struct StepResult {
    double loss = 0;       ///< mean negative log likelihood (nats) over the counted predictions of the global batch
    double grad_norm = 0;  ///< before clipping
    bool finite = true;    ///< false: nothing was updated
};

/// The device scalars that a step needs, and their host copies; made once for all steps.
class StepScalars {
public:
    explicit StepScalars(Device& device);
    Tensor loss_sum() const { return sums_->slice(0, 1).reshaped({}); }
    Tensor sum_squares() const { return sums_->slice(1, 1).reshaped({}); }
    Tensor sums() const { return sums_; }  ///< both, (2) float64
    Tensor clip_scale() const { return *scale_; }
    /// Waits for everything queued so far; returns {loss_sum, sum_squares}.
    std::pair<double, double> read() const;
    void clear() const;

private:
    Device& device_;
    ArenaTensor sums_, scale_, host_;
};

/// Every rank of the mesh calls it, even if its `batch` is empty. step counts from 1. The loss and its gradient are
/// divided by batch.num_predictions, the same number on all ranks, so they depend neither on the mesh nor on
/// micro-batches. If no prediction is counted, the loss is 0 and so is its gradient, and the update is that of a zero
/// gradient.
StepResult train_step(Model& model, parallel::MeshCommunicators& mesh, const StepScalars& scalars, const Batch& batch,
                      const StepOptions& options, const ActivationPlan& activations, std::int64_t step,
                      double lr_factor);

/// The gradient part alone. Afterwards the own gradients (Weights::own_gradient) are those of the mean loss over the
/// global batch, summed over ranks; scalars.loss_sum is the sum of this rank alone.
void step_gradients(Model& model, parallel::MeshCommunicators& mesh, const StepScalars& scalars, const Batch& batch,
                    const StepOptions& options, const ActivationPlan& activations);

}  // namespace longlora
