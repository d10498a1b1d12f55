// The micro-batches of one step through the stages of the pipeline: the schedule (parallel/pipeline_schedule.h) carried
// out by this rank's stage, activations and their gradients sent to its neighbours while it computes. With one stage it
// is gradient accumulation.
#pragma once

#include <functional>

#include "model/model.h"
#include "parallel/mesh_communicators.h"

namespace longlora {

struct MicroBatches {
    std::int64_t count = 0;  ///< the same on every rank of the mesh
    std::function<std::int64_t(std::int64_t i)>
        num_sequences;  ///< of micro-batch i on this rank's data coordinate; 0: it only joins collectives
    std::function<MicroBatch(std::int64_t i)> make;  ///< asked only for those with sequences
};

/// Adds the gradients of scale * loss of all micro-batches to the stage's, and on the last stage their losses to
/// loss_sum.
void run_micro_batches(Model& model, parallel::MeshCommunicators& mesh, const MicroBatches& batches, Tensor loss_sum,
                       float scale, const ActivationPlan& activations);

}  // namespace longlora
