// What an evaluation reads before it plans its memory: the model's files, the texts and their windows, and the hashes
// that its protocol states.
#pragma once

#include <string>
#include <vector>

#include "jobs/evaluate/options.h"
#include "jobs/process/watched_group.h"

namespace longlora {

struct EvaluationInputs {
    ModelSource source;
    Stage stage;  ///< of this rank
    TokenFiles files;
    std::vector<WindowList> lists;  ///< by measurement
};

/// Opens model and texts, and lists the windows. All ranks must have the same config.json, checkpoint, adapter and
/// token files. Collective.
EvaluationInputs open_evaluation_inputs(const parallel::HostGroup& group, const EvaluateOptions& options,
                                        const std::vector<Measurement>& measurements, parallel::MeshShape shape);

/// "" where there is no base model or no adapter, and on all ranks but rank 0.
struct ModelHashes {
    std::string base_model, adapter;
};
/// Rank 0 reads and hashes all weights. Collective.
ModelHashes hash_model(WatchedGroup& watched, const ModelSource& source);

}  // namespace longlora
