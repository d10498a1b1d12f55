// The outputs of commands. A command replaces a file only if the same command made it, and never if the file is also an
// input; and only one job at a time writes an output. Run folders have the same two rules in src/run/folder.h
// (require_run_folder) and jobs/train/lock_on_all_ranks.h.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "run/lock.h"

namespace longlora {

/// The files that a command makes, and so may replace.
struct OutputKind {
    std::string what;  ///< "a token file"
    std::function<bool(const std::string& path)> is_ours;
};
/// Token files (io/token_file.h).
OutputKind token_file_output();
/// JSON objects that have all keys of one of the lists, and empty files.
OutputKind json_output(const std::string& what, const std::vector<std::vector<std::string>>& keys);

/// Throws an Error if `output` is the same file or folder as one of `inputs`, or the same file as one in a folder of
/// `inputs`; links count as what they lead to.
void require_no_input(const std::string& output, const std::vector<std::string>& inputs);
/// Throws an Error unless a file may be written at `path`: the folder exists, and there is no such file yet, or one of
/// this kind that is none of `inputs`.
void require_replaceable(const std::string& path, const OutputKind& kind, const std::vector<std::string>& inputs);

/// The right to write one output, as long as this object lives. Rank 0 has it.
class Output {
public:
    /// Locks the output by PATH.lock; an Error if another job writes it. Calls `check`, which throws an Error if the
    /// output must not be written, before and after: another job may have written it meanwhile. Then removes what
    /// killed jobs left of this output. `waiting` is called repeatedly while a silent holder of the lock is watched.
    Output(const std::string& path, const std::function<void()>& check, const std::function<void()>& waiting = {});

    const std::string& path() const { return path_; }
    const std::string& token() const { return lock_->token(); }
    /// Throws an Error if another job has taken over. Call it before every rename.
    void require_held() const { lock_->require_held(); }
    /// The name of the unfinished output, which no other job uses.
    std::string partial() const { return partial_of(path_, token()); }
    static std::string partial_of(const std::string& path, const std::string& token);
    /// Writes the file completely or not at all.
    void write_text(const std::string& content) const;

private:
    const std::string path_;
    std::unique_ptr<LockFile> lock_;
};

/// Output of a file that is optional: null if `path` is empty.
std::unique_ptr<Output> optional_output(const std::string& path, const OutputKind& kind,
                                        const std::vector<std::string>& inputs,
                                        const std::function<void()>& waiting = {});

}  // namespace longlora
