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

/// "out/", "./out" -> "out", so that PATH.TOKEN.partial is in the same folder.
std::string normal(const std::string& path) {
    require(!path.empty(), "the output folder has no name");
    fs::path p = fs::path(path).lexically_normal();
    if (!p.has_filename()) p = p.parent_path();
    require(p.has_filename() && p.filename() != ".." && p.filename() != ".", path,
            " cannot be an output folder; name a new one");
    return p.string();
}

}  // namespace

OutputFolder::OutputFolder(const std::string& path) : path_(normal(path)) {
    try {
        create();
    } catch (...) {
        undo();
        throw;
    }
}

void OutputFolder::create() {
    const auto require_new = [this] {
        require(!file_exists(path_) && !fs::is_symlink(path_), path_,
                " exists already; remove it or name another output folder");
    };
    require_new();
    for (std::string parent = folder_of(path_); parent != "." && !file_exists(parent); parent = folder_of(parent))
        created_.push_back(parent);
    try {
        create_folders(folder_of(path_));
    } catch (const Error& error) {
        fail(text(error.what(), "; the output ", path_, " needs it"));
    }
    output_ = std::make_unique<Output>(path_, require_new);
    partial_ = output_->partial();
    create_folders(partial_);
}

/// Another job may write into the same new parent folders, so only empty ones are removed.
void OutputFolder::undo() {
    if (!partial_.empty()) remove_tree(partial_);
    output_.reset();
    std::error_code not_empty;
    for (const std::string& folder : created_) fs::remove(folder, not_empty);
}

OutputFolder::~OutputFolder() {
    if (!committed_) undo();
}

void OutputFolder::commit() {
    sync_folder(partial_);
    output_->require_held();
    rename_file(partial_, path_);
    committed_ = true;
}

}  // namespace longlora
