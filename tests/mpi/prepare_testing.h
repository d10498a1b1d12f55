// What the tests of prepare share: a folder of all ranks, and the sentence of an Error. No tests here.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "jobs/prepare/prepare.h"

namespace longlora::prepare_testing {

using parallel::HostGroup;

/// A temporary folder that rank 0 makes and removes; all ranks get its path.
struct Shared {
    HostGroup group;
    std::string folder;
    Shared() {
        std::string name = (std::filesystem::temp_directory_path() / "longlora-prepare-XXXXXX").string();
        if (group.rank() == 0) ensure(::mkdtemp(name.data()) != nullptr, "a temporary folder");
        folder = group.broadcast(name);
    }
    ~Shared() {
        group.barrier();
        std::error_code ignored;
        if (group.rank() == 0) std::filesystem::remove_all(folder, ignored);
    }
    bool lead() const { return group.rank() == 0; }
    std::string operator/(const std::string& name) const { return folder + "/" + name; }
    /// Rank 0 writes a file; when this returns, all ranks see it.
    void spill(const std::string& name, const std::string& bytes) const {
        if (lead()) {
            std::filesystem::create_directories(std::filesystem::path(*this / name).parent_path());
            std::ofstream(*this / name, std::ios::binary) << bytes;
        }
        group.barrier();
    }
};

inline std::string sentence_of(const PrepareOptions& options, const HostGroup& group) {
    try {
        run_prepare(options, group);
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

}  // namespace longlora::prepare_testing
