// The lock of the run folder as all ranks see it: only one job trains in a folder. The lock file itself:
// src/run/lock.h.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "jobs/experiment/options.h"
#include "jobs/process/watched_group.h"
#include "run/lock.h"

namespace longlora {

struct FolderLock {
    std::string run_folder;
    std::string token;               ///< of this start, on all ranks
    std::unique_ptr<LockFile> lock;  ///< rank 0; destroying it releases the lock

    /// An Error if another job has taken the folder since. Not collective.
    void require_held() const;
};

/// Locks a run folder that exists; nothing if it does not exist yet, so that refused input leaves no folder behind. An
/// Error if the folder is an input or has files but is no run folder. Collective.
std::optional<FolderLock> lock_existing_folder(WatchedGroup& watched, const TrainOptions& options);
/// Creates the run folder and locks it. An Error if another job has trained in it meanwhile. Collective.
FolderLock lock_new_folder(WatchedGroup& watched, const TrainOptions& options);

}  // namespace longlora
