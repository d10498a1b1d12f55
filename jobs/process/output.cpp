// Files are compared by device and inode. Unfinished outputs are named PATH.TOKEN.partial with the token of the lock
// (run/lock.h), so a job that slept while another took over cannot write into the files of the other.
#include "jobs/process/output.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "io/file.h"
#include "io/json.h"
#include "io/named_tensor_file.h"
#include "io/token_file.h"
#include "jobs/process/slurm_job.h"

namespace longlora {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLargestJson = std::int64_t{256} << 20;  // a larger file is no result of ours
constexpr std::size_t kTokenLength = 16;

bool same_file(const std::string& a, const std::string& b) {
    struct stat x {
    }, y{};
    return ::stat(a.c_str(), &x) == 0 && ::stat(b.c_str(), &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/// The files and folders in a folder; none if it cannot be read.
std::vector<std::string> entries_of(const std::string& folder) {
    std::vector<std::string> paths;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
        paths.push_back(at->path().string());
    return paths;
}

bool has_keys(const Json& json, const std::vector<std::string>& keys) {
    return std::all_of(keys.begin(), keys.end(), [&](const std::string& key) { return json.contains(key); });
}

bool is_json_of(const std::string& path, const std::vector<std::vector<std::string>>& keys) {
    const std::int64_t bytes = FileHandle::open_read(path).size();
    if (bytes == 0) return true;
    if (bytes > kLargestJson) return false;
    const Json json = Json::parse(read_text_file(path), nullptr, false);
    return json.is_object() &&
           std::any_of(keys.begin(), keys.end(), [&](const auto& some) { return has_keys(json, some); });
}

/// Whether `name` is BEGIN.TOKEN.partial.
bool is_partial_of(const std::string& name, const std::string& begin) {
    constexpr std::string_view kEnd = ".partial";
    if (name.size() != begin.size() + 1 + kTokenLength + kEnd.size()) return false;
    const std::string token = name.substr(begin.size() + 1, kTokenLength);
    return name.starts_with(begin + ".") && name.ends_with(kEnd) &&
           token.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// Removes the unfinished outputs and locks of killed jobs.
void remove_leftovers(const std::string& path) {
    const std::string name = fs::path(path).filename().string();
    for (const std::string& entry : entries_of(folder_of(path))) {
        const std::string found = fs::path(entry).filename().string();
        if (!is_partial_of(found, name) && !is_partial_of(found, name + ".lock")) continue;
        std::error_code error;
        fs::remove_all(entry, error);
        if (error) std::fprintf(stderr, "warning: cannot remove %s: %s\n", entry.c_str(), error.message().c_str());
    }
}

LockOptions lock_options(const std::function<void()>& waiting) {
    LockOptions options;
    options.job = job_of_environment();
    options.has_ended = [mine = options.job](const LockHolder& holder) { return slurm_says_ended(holder, mine); };
    options.waiting = waiting;
    options.say = [](const std::string& sentence) {
        std::printf("%s\n", sentence.c_str());
        std::fflush(stdout);
    };
    return options;
}

}  // namespace

OutputKind token_file_output() {
    return {"a token file", [](const std::string& path) { return has_format(path, kTokenFileFormat); }};
}

OutputKind json_output(const std::string& what, const std::vector<std::vector<std::string>>& keys) {
    return {what, [keys](const std::string& path) { return is_json_of(path, keys); }};
}

void require_no_input(const std::string& output, const std::vector<std::string>& inputs) {
    const auto refuse_if = [&](bool same, const std::string& input) {
        require(!same, "the output ", output, " is also an input (", input, "); name another output");
    };
    for (const std::string& input : inputs) {
        refuse_if(same_file(output, input), input);
        if (is_folder(output)) continue;  // a run folder may be in the folder of its model
        for (const std::string& entry : entries_of(input)) refuse_if(same_file(output, entry), entry);
    }
}

void require_replaceable(const std::string& path, const OutputKind& kind, const std::vector<std::string>& inputs) {
    require(!is_folder(path), "the output ", path, " is a folder; name a file");
    require(is_folder(folder_of(path)), "the folder ", folder_of(path), " of the output does not exist");
    if (!file_exists(path)) return;
    require_no_input(path, inputs);
    require(fs::is_regular_file(path) && kind.is_ours(path), "the output ", path, " exists and is not ", kind.what,
            ", so it is not replaced; name another output, or move this file away");
}

Output::Output(const std::string& path, const std::function<void()>& check, const std::function<void()>& waiting)
    : path_(path) {
    check();
    lock_ = std::make_unique<LockFile>(lock_of_output(path), lock_options(waiting));
    check();
    remove_leftovers(path);
}

std::string Output::partial_of(const std::string& path, const std::string& token) {
    return path + "." + token + ".partial";
}

void Output::write_text(const std::string& content) const {
    require_held();
    write_text_file(path_, content, token());
}

std::unique_ptr<Output> optional_output(const std::string& path, const OutputKind& kind,
                                        const std::vector<std::string>& inputs, const std::function<void()>& waiting) {
    if (path.empty()) return nullptr;
    return std::make_unique<Output>(
        path, [&] { require_replaceable(path, kind, inputs); }, waiting);
}

}  // namespace longlora
