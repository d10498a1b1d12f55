// The micro-batches of one step through the stages of the pipeline. This rank's stage carries out the schedule
// (src/parallel/pipeline_schedule.h); activations and their gradients travel to the neighbouring stages while it
// computes. With one stage this is gradient accumulation.
#pragma once

#include <functional>

#include "model/model.h"
#include "parallel/mesh_communicators.h"

namespace longlora {

struct MicroBatches {
    std::int64_t count = 0;  ///< the same on every rank of the mesh
    /// Of micro-batch i on this rank's data coordinate. With 0 the rank only takes part in collective calls.
    std::function<std::int64_t(std::int64_t i)> num_sequences;
    std::function<MicroBatch(std::int64_t i)> make;  ///< called only for micro-batches with sequences
};

/// Adds the gradients of scale * loss of all micro-batches to the gradients of the stage, and on the last stage their
/// losses to loss_sum.
void run_micro_batches(Model& model, parallel::MeshCommunicators& mesh, const MicroBatches& batches, Tensor loss_sum,
                       float scale, const ActivationPlan& activations);

}  // namespace longlora
