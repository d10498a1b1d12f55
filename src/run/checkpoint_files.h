// The files of a run's checkpoints: names, `latest`, which is the newest good one, which may go. It does not know what
// is inside (checkpoint.h).
//   RUN/checkpoints/step-00000120.h5   .../latest (the newest one's file name, for scripts)   .../*.partial (being
//   written)   .../*.damaged, *.discarded (set aside)
// All of it is rank 0's work.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace longlora {

constexpr const char* kCheckpointFormat = "longlora checkpoint";
constexpr std::int64_t kCheckpointVersion = 1;

std::string checkpoint_folder(const std::string& run);
/// "step-00000120.h5"
std::string checkpoint_name(std::int64_t step);
/// The step of a file name or path; -1 if it is not a checkpoint's name.
std::int64_t step_of_checkpoint(const std::string& path);

struct CheckpointFile {
    std::int64_t step = 0;
    std::string path;
};

/// Whole checkpoints of a run by rising step; empty if there are none. A whole one has its final name, by construction.
std::vector<CheckpointFile> list_checkpoints(const std::string& run);

/// `run_or_file`: a checkpoint itself, or a run folder (its newest checkpoint). An Error says what is missing.
std::string newest_checkpoint(const std::string& run_or_file);

/// Every block of every tensor against its checksum; the Error names file and place. progress: called after each block.
void verify_checkpoint(const std::string& path, const std::function<void()>& progress = {});

struct DamagedCheckpoint {
    std::string path, why;
};
struct Resumable {
    std::string path;                        ///< the newest that verifies; empty: nothing to resume from
    std::vector<DamagedCheckpoint> damaged;  ///< newer ones, newest first
};

/// Looks, and changes nothing. progress: called after each block that was read.
Resumable find_resumable(const std::string& run, const std::function<void()>& progress = {});
/// Refuses to begin anew where only damaged checkpoints are, now or set aside earlier: that would throw away, unseen in
/// a requeued job, what may still be saved.
void require_some_whole(const std::string& run, const Resumable& found);
/// Moves the damaged ones to NAME.damaged; returns sentences for the user.
std::vector<std::string> set_damaged_aside(const Resumable& found);

/// Removes what killed savers left half-written, in the run folder and its checkpoints/.
void remove_partials(const std::string& run);
/// Going on from `step`: later checkpoints belong to a course that is given up; they move to NAME.discarded, so that
/// `newest` means this course.
void discard_checkpoints_after(const std::string& run, std::int64_t step);
/// Points `latest` at a whole checkpoint.
void set_latest(const std::string& run, const std::string& name);
/// Deletes all but the newest `keep` (at least 1) checkpoints, and never the one of step `last_good`.
void remove_old_checkpoints(const std::string& run, std::int64_t keep, std::int64_t last_good);

}  // namespace longlora
