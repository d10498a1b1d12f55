// The checkpoint files of a run: their names, `latest`, the newest one that verifies, and which may be deleted. The
// content of a checkpoint is in src/train/checkpoint.h. Only rank 0 calls these functions.
//   RUN/checkpoints/step-00000120.h5   a complete checkpoint
//   RUN/checkpoints/latest             the file name of the newest one, for scripts
//   RUN/checkpoints/*.partial          being written
//   RUN/checkpoints/*.damaged          set aside because it does not verify, or is not of the step that it is named for
//   RUN/checkpoints/*.discarded        set aside because the run resumed from an earlier step
// What is set aside never replaces what was set aside before: step-00000120.h5.2.discarded is the second of its name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/json.h"

namespace longlora {

constexpr const char* kCheckpointFormat = "longlora checkpoint";
constexpr std::int64_t kCheckpointVersion = 1;

std::string checkpoint_folder(const std::string& run);
/// "step-00000120.h5"
std::string checkpoint_name(std::int64_t step);
/// The step in a file name or path; -1 if it is not the name of a checkpoint.
std::int64_t step_of_checkpoint(const std::string& path);

struct CheckpointFile {
    std::int64_t step = 0;
    std::string path;
};

/// The checkpoints of a run in the order of their steps; empty if there are none. A file has the name of a checkpoint
/// only after it was written completely.
std::vector<CheckpointFile> list_checkpoints(const std::string& run);

/// `run_or_file` is a checkpoint, or a run folder whose newest checkpoint is returned. An Error says what is missing.
std::string newest_checkpoint(const std::string& run_or_file);

/// Verifies every block of every tensor by its checksum, and the step as below; the Error names the file and the place.
/// Calls `progress` after each block.
void verify_checkpoint(const std::string& path, const std::function<void()>& progress = {});
/// Throws an Error if a file with the name of a checkpoint is one of another step. `attributes` are those of the file.
void require_step_of_name(const std::string& path, const Json& attributes);

struct DamagedCheckpoint {
    std::string path, why;
};
struct Resumable {
    std::string path;                        ///< the newest checkpoint that verifies; empty: there is none
    std::vector<DamagedCheckpoint> damaged;  ///< newer checkpoints, the newest first
};

/// Finds the checkpoint to resume from, and changes no file. Calls `progress` after each block that it read.
Resumable find_checkpoint_to_resume(const std::string& run, const std::function<void()>& progress = {});
/// Refuses to start from the beginning if a run has only damaged checkpoints, found now or set aside earlier. A
/// requeued job would otherwise throw away, without anyone noticing, work that may still be recovered.
void refuse_if_only_damaged(const std::string& run, const Resumable& found);
/// Moves the damaged checkpoints to NAME.damaged, or NAME.2.damaged ..., and returns sentences for the user.
std::vector<std::string> set_damaged_aside(const Resumable& found);

/// Whether a file of this name in a run folder or its checkpoints/ is one that a run was writing.
bool is_partial_name(const std::string& name);
/// Removes the incomplete files of killed processes from the run folder and its checkpoints/. Other files stay.
void remove_partials(const std::string& run);
/// When a run resumes from `step`, moves later checkpoints to NAME.discarded, or NAME.2.discarded ..., so that the
/// newest checkpoint always belongs to the current course of the run.
void discard_checkpoints_after(const std::string& run, std::int64_t step);
/// Writes the name of a complete checkpoint to `latest`.
void set_latest(const std::string& run, const std::string& name);
/// Deletes all but the newest `keep_checkpoints` (at least 1) checkpoints, but never the one of step `last_good`.
void remove_old_checkpoints(const std::string& run, std::int64_t keep_checkpoints, std::int64_t last_good);

}  // namespace longlora
