// The text files of a run: manifest.json, metrics.jsonl, status.json. Rank 0's but for the last; no MPI. Checkpoints
// are checkpoint_files.h, who may write run_lock.h.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"
#include "io/content_hash.h"
#include "io/file.h"
#include "io/json.h"

namespace longlora {

/// The folder, its checkpoints/ and ranks/ where missing.
void create_run_folder(const std::string& run);
/// Atomic; indented for people.
void write_manifest(const std::string& run, const Json& manifest);

/// The checksums of the base model's tensors that the run's first start recorded in its manifest; empty if there are
/// none, or no manifest that can be read.
TensorChecksums recorded_checksums(const std::string& run);

/// Appends to metrics.jsonl, one write per line.
class MetricsLog {
public:
    explicit MetricsLog(const std::string& run);
    /// Doubles are written so that they read back to the same bits. A line that cannot be written (full disk) is kept
    /// and tried again with the next; returns the reason the first time it happens, else an empty text.
    std::string append(const Json& line);
    /// Until all lines are on the disk; an Error if some could not be written.
    void sync();

private:
    void flush();
    FileHandle file_;
    std::int64_t size_ = 0;
    std::string unwritten_;
};

/// Before going on after `step`: lines of later steps move to metrics.discarded.jsonl, a torn last line is dropped, so
/// that each step appears once. Atomic, and right again if it is killed on the way. Returns how many lines moved.
std::int64_t discard_metrics_after(const std::string& run, std::int64_t step);

/// Changes these fields of status.json, keeps the others, and sets "updated" (UTC, "2024-01-31T12:00:00Z"). Atomic.
/// `writer`: who may write it beside the trainer.
///   of a start: "starts" (how many so far), "started", "ranks", "host", "job", "restart"
///   of the loop: "state" (running | done | stopped | failed), "exit_code" (null while running), "step", "steps",
///   "checkpoint", "message", "seconds_left" (null if unknown)
void update_status(const std::string& run, const Json& changes, const std::string& writer = "");
/// The end of a start by an Error: "failed", unless the loss of a rank (exit code 5) follows a failure that is recorded
/// already, whose consequence it is.
void record_failure(const std::string& run, ExitCode code, const std::string& message, const std::string& writer);
/// What status.json says; {} if there is none, or none that can be read.
Json read_status(const std::string& run);
/// Now, as status.json writes times.
std::string utc_now();

}  // namespace longlora
