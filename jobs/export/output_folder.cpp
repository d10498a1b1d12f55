// OutputFolder with std::filesystem. A message about a failure names the path and the system's reason.
#include "jobs/export/output_folder.h"

#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "io/file.h"

namespace longlora {
namespace {

namespace fs = std::filesystem;

void remove_tree(const std::string& path) {
    std::error_code error;
    fs::remove_all(path, error);
    if (error) std::fprintf(stderr, "warning: cannot remove %s: %s\n", path.c_str(), error.message().c_str());
}

/// "out/", "./out" -> "out", so that PATH.partial is in the same folder.
std::string normal(const std::string& path) {
    require(!path.empty(), "the output folder has no name");
    fs::path p = fs::path(path).lexically_normal();
    if (!p.has_filename()) p = p.parent_path();
    require(p.has_filename() && p.filename() != ".." && p.filename() != ".", path,
            " cannot be an output folder; name a new one");
    return p.string();
}

}  // namespace

OutputFolder::OutputFolder(const std::string& path) : path_(normal(path)), partial_(path_ + ".partial") {
    require(!file_exists(path_) && !fs::is_symlink(path_), path_,
            " exists already; remove it or name another output folder");
    if (file_exists(partial_)) remove_tree(partial_);
    created_ = partial_;
    for (std::string parent = folder_of(created_); !file_exists(parent) && parent != created_;
         parent = folder_of(parent))
        created_ = parent;
    try {
        create_folders(partial_);
    } catch (...) {
        if (file_exists(created_)) remove_tree(created_);
        throw;
    }
}

OutputFolder::~OutputFolder() {
    if (!committed_) remove_tree(created_);
}

void OutputFolder::commit() {
    sync_folder(partial_);
    rename_file(partial_, path_);
    committed_ = true;
}

}  // namespace longlora
