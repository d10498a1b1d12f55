// Rank 0 changes the folder. It checks the lock before each change, since a suspended job may have lost it.
#include "jobs/train/begin_in_folder.h"

#include <functional>

#include "core/host.h"
#include "io/file.h"
#include "jobs/command_line/say.h"
#include "jobs/process/slurm_job.h"
#include "parallel/agree.h"
#include "run/folder.h"

namespace longlora {
namespace {

/// Rank 0 changes the run folder if it is still this job's. Collective: all ranks get its Error.
void change_folder(const parallel::HostGroup& group, const FolderLock& lock, const std::function<void()>& change) {
    parallel::agree(group, [&] {
        if (group.rank() != 0) return;
        lock.require_held();
        change();
    });
}

/// Whether the folder has no steps of its own, only perhaps lines of starts that saved none: those before the
/// checkpoint were done in another folder.
bool begins_with_steps_of_another_run(const std::string& run, const ResumeSource& source) {
    return !source.checkpoint.empty() && list_checkpoints(run).empty() &&
           file_identity(folder_of(source.checkpoint)) != file_identity(checkpoint_folder(run));
}

/// Sets aside the checkpoints and metrics after `step`, and the damaged checkpoints.
void set_aside_after(const parallel::HostGroup& group, const FolderLock& lock, const ResumeSource& source,
                     std::int64_t step) {
    std::int64_t lines = 0;
    change_folder(group, lock, [&] {
        const bool begins = begins_with_steps_of_another_run(lock.run_folder, source);
        for (const auto& note : set_damaged_aside(source.found)) say(group, note);
        if (!source.found.damaged.empty()) say(group, "the run resumes from " + source.checkpoint + " instead");
        discard_checkpoints_after(lock.run_folder, step);
        lines = discard_metrics_after(lock.run_folder, begins ? 0 : step);
    });
    if (lines > 0)
        say(group, text(lines, " lines of metrics after step ", step,
                        " moved to metrics.discarded.jsonl; later checkpoints, if any, are kept as *.discarded"));
}

void write_first_status(const TrainOptions& options, int ranks, const ResumeSource& source, std::int64_t first_step) {
    const JobIdentity job = job_of_environment();
    const Json before = read_status(options.run_folder);
    const Json starts = before.contains("starts") ? before["starts"] : Json();
    update_status(options.run_folder, {{"state", "running"},
                                       {"exit_code", Json()},
                                       {"step", first_step - 1},
                                       {"steps", options.steps},
                                       {"checkpoint", source.checkpoint},
                                       {"message", ""},
                                       {"seconds_left", Json()},
                                       {"starts", 1 + (starts.is_number_integer() ? starts.get<std::int64_t>() : 0)},
                                       {"started", utc_now()},
                                       {"ranks", ranks},
                                       {"host", host_name()},
                                       {"job", job.id},
                                       {"restart", job.restart}});
}

/// Heartbeats go to the folder. If the run stands still, the watchdog records it as long as the folder is this job's.
void watch_folder(WatchedGroup& watched, const std::string& folder, const std::string& token) {
    watched.watchdog.watch_run(
        folder, token, [folder, token, rank = watched.group.rank()](const std::string& sentence) {
            if (is_lock_of(lock_of_run(folder), token))
                record_failure(folder, ExitCode::communication, sentence, text("watchdog", rank));
        });
}

}  // namespace

void begin_in_folder(WatchedGroup& watched, const TrainOptions& options, const FolderLock& lock,
                     const ResumeSource& source, std::int64_t first_step, const Json& manifest) {
    const parallel::HostGroup& group = watched.group;
    const std::string& folder = options.run_folder;
    change_folder(group, lock, [&] {
        create_run_folder(folder);
        remove_partials(folder);
        if (source.checkpoint.empty() && file_exists(folder + "/metrics.jsonl"))
            say(group, text(folder, " has no checkpoint to resume from; starting at step 1"));
    });
    set_aside_after(group, lock, source, first_step - 1);
    // If no step is left, the manifest of the start that did the last steps stays.
    if (first_step <= options.steps) change_folder(group, lock, [&] { write_manifest(folder, manifest); });
    change_folder(group, lock, [&] { write_first_status(options, group.size(), source, first_step); });
    watch_folder(watched, folder, lock.token);
}

}  // namespace longlora
