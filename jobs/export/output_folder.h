// A folder that appears complete or not at all: the caller writes into PATH.TOKEN.partial, and commit() renames it. It
// never replaces anything. Outputs that are single files: jobs/process/output.h.
#pragma once

#include <memory>
#include <string>

#include "jobs/process/output.h"

namespace longlora {

class OutputFolder {
public:
    /// Locks the output and creates an empty PATH.TOKEN.partial; folders that killed programs left are removed first.
    /// An Error if `path` exists or another job writes it.
    explicit OutputFolder(const std::string& path);
    /// If commit() was not called, removes PATH.TOKEN.partial, and those parent folders that were created for it and
    /// are empty.
    ~OutputFolder();
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;

    /// The folder to write into. The caller must fsync each file.
    const std::string& partial() const { return partial_; }
    /// Throws an Error if another job has taken over the output.
    void commit();

private:
    void create();
    void undo();
    const std::string path_;
    std::vector<std::string> created_;  // parent folders that did not exist before, the innermost first
    std::unique_ptr<Output> output_;
    std::string partial_;
    bool committed_ = false;
};

}  // namespace longlora
