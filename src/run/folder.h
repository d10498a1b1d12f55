// The text files of a run: manifest.json, metrics.jsonl and status.json. Only rank 0 writes them, except that any
// rank may write status.json; no MPI. Checkpoints are in checkpoint_files.h; lock.h decides which job may write.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"
#include "io/content_hash.h"
#include "io/file.h"
#include "io/json.h"

namespace longlora {

/// Throws an Error if `run` is a folder that a run must not write into: it has files, but is no run folder. A run
/// folder has a manifest of ours or a checkpoint, or has only names that a run, its job script (slurm/submit.sh) or its
/// user's log and options files have, with the contents of ours. Hidden files and lost+found do not count.
void require_run_folder(const std::string& run);
/// Creates the run folder, its checkpoints/ and its ranks/ where they do not exist.
void create_run_folder(const std::string& run);
/// Writes manifest.json atomically, indented for people.
void write_manifest(const std::string& run, const Json& manifest);

/// The checksums of the base model's tensors that the run's first start recorded in its manifest. Empty if the
/// manifest has none, does not exist, or cannot be read.
TensorChecksums recorded_checksums(const std::string& run);

/// Appends to metrics.jsonl, one write per line. A file that has other names too, in a copy of the folder made by
/// links, stays as it is under those.
class MetricsLog {
public:
    explicit MetricsLog(const std::string& run);
    /// Appends a line. Doubles are written so that they read back to the same bits. A line that cannot be written
    /// (full disk) is kept and tried again with the next one. Returns a sentence for the user, mostly an empty one: why
    /// the line was not written, the first time; or that somebody removed or replaced the file, whose name is then
    /// given to a new one.
    std::string append(const Json& line);
    /// Returns when all lines are on the disk; an Error if some could not be written.
    void sync();

private:
    std::string follow_name();
    std::string flush();
    FileHandle file_;
    std::int64_t size_ = 0;
    std::string unwritten_;
};

/// Before a run resumes after `step`: moves the lines of later steps to metrics.discarded.jsonl and drops an
/// incomplete last line, so that each step appears once. Atomic; after a kill, the next call completes the work.
/// Returns the number of lines moved.
std::int64_t discard_metrics_after(const std::string& run, std::int64_t step);

/// Changes these fields of status.json, keeps the others, and sets "updated" (UTC, "2024-01-31T12:00:00Z"). Atomic. A
/// writer other than the trainer gives its name as `writer`, so that both can write at once (write_text_file in
/// io/file.h).
///   fields of a start      "starts" (how many so far), "started", "ranks", "host", "job", "restart"
///   fields of the loop     "state" (running | done | stopped | failed), "exit_code" (null while running), "step",
///                          "steps", "checkpoint", "message", "seconds_left" (null if unknown)
void update_status(const std::string& run, const Json& changes, const std::string& writer = "");
/// Records that an Error ended this start ("failed"). A lost rank (exit code 5) is not recorded after another
/// failure, since it is the consequence of that failure.
void record_failure(const std::string& run, ExitCode code, const std::string& message, const std::string& writer);
/// The content of status.json; {} if it does not exist or cannot be read.
Json read_status(const std::string& run);
/// The present time as status.json writes times.
std::string utc_now();

}  // namespace longlora
