// The text files of a run: manifest.json, metrics.jsonl, status.json. Rank 0 only; no MPI. Checkpoints are checkpoint_files.h.
#pragma once

#include <cstdint>
#include <string>

#include "io/file.h"
#include "io/json.h"

namespace longlora {

/// The folder and its checkpoints/ where missing.
void create_run_folder(const std::string& run);
/// Atomic; indented for people.
void write_manifest(const std::string& run, const Json& manifest);

/// Appends to metrics.jsonl, one write per line.
class MetricsLog {
public:
    explicit MetricsLog(const std::string& run);
    /// Doubles are written so that they read back to the same bits. A line that cannot be written (full disk) is kept and tried again with the next;
    /// returns the reason the first time it happens, else an empty text.
    std::string append(const Json& line);

private:
    FileHandle file_;
    std::int64_t size_ = 0;
    std::string unwritten_;
};

/// Before going on after `step`: lines of later steps move to metrics.discarded.jsonl, a torn last line is dropped, so that each step appears once.
/// Atomic, and right again if it is killed on the way. Returns how many lines moved.
std::int64_t discard_metrics_after(const std::string& run, std::int64_t step);

struct RunStatus {
    std::string state = "running";   ///< running | done | stopped | failed
    int exit_code = -1;              ///< null in the file while running (-1)
    std::int64_t step = 0, steps = 0;
    std::string checkpoint, message;
};

/// status.json: {"state", "exit_code", "step", "steps", "checkpoint", "message", "updated"}; atomic; `updated` is UTC, "2024-01-31T12:00:00Z".
void write_status(const std::string& run, const RunStatus& status);

}  // namespace longlora
