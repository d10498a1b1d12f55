// What a training run reads before it can decide anything: the base model, the token files, and the hashes by which
// checkpoints know both. Not here: the checkpoint to resume from (jobs/train/resume_source.h).
#pragma once

#include <memory>
#include <string>

#include "io/content_hash.h"
#include "jobs/experiment/setup.h"
#include "jobs/process/watched_group.h"

namespace longlora {

/// Files that were opened; of the model's weights only the names, shapes and types were read.
struct OpenedInputs {
    BaseModel base;
    std::unique_ptr<const DataOrder> order;
};

struct Inputs {
    BaseModel base;
    std::unique_ptr<const DataOrder> order;
    std::string model_hash;         ///< of the values in the base model's files; "" with --init
    TensorChecksums model_tensors;  ///< of the same values, by tensor; rank 0 alone has them
    std::string data_hash;
};

/// Opens the files. All ranks must have the same config.json and the same token files. Collective.
OpenedInputs open_inputs(const parallel::HostGroup& group, const TrainOptions& options);
/// Rank 0 reads all weights for their hash. Collective.
Inputs hash_inputs(WatchedGroup& watched, OpenedInputs opened);
/// Closes the files of the base model, whose values are in use or copied by now.
void close_model_files(Inputs& inputs);

}  // namespace longlora
