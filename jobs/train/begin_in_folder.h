// The run folder at the start of training: what is set aside, manifest.json and status.json. Its lock:
// jobs/train/lock_on_all_ranks.h. Its files in general: src/run.
#pragma once

#include <cstdint>

#include "jobs/train/lock_on_all_ranks.h"
#include "jobs/train/resume_source.h"

namespace longlora {

/// Prepares the locked folder for the steps from first_step on: completes its folders, removes incomplete files, sets
/// aside what came after the checkpoint to resume from, writes manifest and status. From then on all ranks send their
/// heartbeats in it. Collective.
void begin_in_folder(WatchedGroup& watched, const TrainOptions& options, const FolderLock& lock,
                     const ResumeSource& source, std::int64_t first_step, const Json& manifest);

}  // namespace longlora
