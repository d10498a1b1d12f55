// Rank 0 takes the lock and broadcasts its token; the other ranks compare the token to the lock file.
#include "jobs/train/lock_on_all_ranks.h"

#include "io/file.h"
#include "jobs/command_line/say.h"
#include "jobs/command_line/units.h"
#include "jobs/process/output.h"
#include "jobs/process/signals.h"
#include "jobs/process/slurm_job.h"
#include "parallel/agree.h"
#include "run/checkpoint_files.h"
#include "run/folder.h"

namespace longlora {
namespace {

FolderLock take_lock(WatchedGroup& watched, const TrainOptions& o) {
    const parallel::HostGroup& group = watched.group;
    std::unique_ptr<LockFile> lock = parallel::agreed(group, [&] {
        if (group.rank() != 0) return std::unique_ptr<LockFile>();
        LockOptions options;
        options.job = job_of_environment();
        options.timeout_seconds = parse_seconds(o.lock_timeout, "--lock-timeout");
        options.has_ended = [mine = options.job](const LockHolder& holder) { return slurm_says_ended(holder, mine); };
        options.waiting = [&watched, &o] {
            watched.note_work();
            if (stop_signal_came())
                fail(text("stopped while waiting for the lock of the run folder ", o.run_folder), ExitCode::stopped);
        };
        options.say = [&group](const std::string& sentence) { say(group, sentence); };
        return std::make_unique<LockFile>(lock_of_run(o.run_folder), options);
    });
    std::string token = group.broadcast(lock ? lock->token() : "");
    return {o.run_folder, std::move(token), std::move(lock)};
}

}  // namespace

void FolderLock::require_held() const {
    if (lock) lock->require_held();
    else require_lock_of(lock_of_run(run_folder), token);
}

std::optional<FolderLock> lock_existing_folder(WatchedGroup& watched, const TrainOptions& options) {
    const parallel::HostGroup& group = watched.group;
    const bool exists = parallel::agreed(group, [&] {
        if (group.rank() != 0 || !is_folder(options.run_folder)) return false;
        require_no_input(options.run_folder, {options.model, options.adapter});
        require_run_folder(options.run_folder);
        return true;
    });
    if (!group.any(exists)) return std::nullopt;
    return take_lock(watched, options);
}

FolderLock lock_new_folder(WatchedGroup& watched, const TrainOptions& options) {
    const parallel::HostGroup& group = watched.group;
    parallel::agree(group, [&] {
        if (group.rank() != 0) return;
        create_folders(options.run_folder);
        require_run_folder(options.run_folder);
    });
    FolderLock lock = take_lock(watched, options);
    parallel::agree(group, [&] {
        if (group.rank() == 0)
            require(list_checkpoints(options.run_folder).empty(), "another job has trained in ", options.run_folder,
                    " since this job looked; start this job again, or take another --run");
    });
    return lock;
}

}  // namespace longlora
