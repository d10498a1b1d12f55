// Which checkpoint a start resumes from, and loading it. These functions change nothing in the run folder
// (jobs/train/begin_in_folder.h does). What may differ from the checkpoint's run: src/run/option_check.h and
// jobs/train/resume_check.h.
#pragma once

#include <cstdint>
#include <string>

#include "jobs/train/manifest.h"
#include "run/checkpoint_files.h"

namespace longlora {

struct ResumeSource {
    std::string checkpoint;       ///< the file; empty: the run begins
    Resumable found;              ///< what the run folder has; rank 0 alone knows it
    Json starts = Json::array();  ///< the history of the checkpoint (run/history.h); rank 0 alone knows it
};

/// By --resume. Collective.
ResumeSource find_resume_source(WatchedGroup& watched, const TrainOptions& options);

/// If there is a checkpoint, loads it into `weights` and says on standard output what has changed since. Refuses a
/// checkpoint of a run with another identity. Returns the first step to do. Collective.
std::int64_t load_resume_source(const parallel::HostGroup& group, const TrainOptions& options, const Inputs& inputs,
                                const ModelContent& model, const ResumeSource& source, const RunRecord& record,
                                Weights& weights);

}  // namespace longlora
