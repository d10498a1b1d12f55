// A folder that appears complete or not at all: the caller writes into PATH.partial, and commit() renames it. For
// single files see io/file.h.
#pragma once

#include <string>

namespace longlora {

class OutputFolder {
public:
    /// Creates an empty PATH.partial; one that a killed program left is removed first. If `path` exists, throws an
    /// Error.
    explicit OutputFolder(const std::string& path);
    /// If commit() was not called, removes PATH.partial and the parent folders that were created for it.
    ~OutputFolder();
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;

    /// The folder to write into. The caller must fsync each file.
    const std::string& partial() const { return partial_; }
    void commit();

private:
    std::string path_, partial_, created_;  // created_: the topmost folder that did not exist before
    bool committed_ = false;
};

}  // namespace longlora
