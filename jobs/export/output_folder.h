// A folder that appears whole or not at all: work goes to PATH.partial, commit() renames it. Not for single files
// (io/file.h).
#pragma once

#include <string>

namespace longlora {

class OutputFolder {
public:
    /// Refuses an existing `path` and creates PATH.partial, empty (what a killed program left there is removed).
    explicit OutputFolder(const std::string& path);
    /// Without commit(): removes the partial folder, and parents that were created for it.
    ~OutputFolder();
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;

    /// Where to write. Files must be fsynced by who writes them.
    const std::string& partial() const { return partial_; }
    void commit();

private:
    std::string path_, partial_, created_;  // created_: the topmost folder that did not exist before
    bool committed_ = false;
};

}  // namespace longlora
