// Names, verifies, moves and deletes checkpoint files. Every operation can be repeated: a process that is killed at
// any moment leaves only complete checkpoints and leftovers that are recognised by their names.
#include "run/checkpoint_files.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <regex>
#include <utility>

#include "core/error.h"
#include "io/file.h"
#include "io/named_tensor_file.h"

namespace longlora {

namespace {

const std::string kPrefix = "step-", kSuffix = ".h5";

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
        names.push_back(at->path().filename().string());
    require(!error, "cannot read the folder ", folder, ": ", error.message());
    return names;
}

/// A name for a file that is set aside, which no other file has: NAME.discarded, NAME.2.discarded ...
std::string free_name(const std::string& path, const std::string& end) {
    std::string name = path + end;
    std::error_code error;
    for (int i = 2; std::filesystem::exists(std::filesystem::symlink_status(name, error)); ++i)
        name = text(path, '.', i, end);
    return name;
}

}  // namespace

std::string checkpoint_folder(const std::string& run) { return run + "/checkpoints"; }

std::string checkpoint_name(std::int64_t step) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%08lld", static_cast<long long>(step));
    return kPrefix + digits + kSuffix;
}

std::int64_t step_of_checkpoint(const std::string& path) {
    const std::string name = std::filesystem::path(path).filename().string();
    if (name.size() <= kPrefix.size() + kSuffix.size() || name.rfind(kPrefix, 0) != 0 ||
        name.substr(name.size() - kSuffix.size()) != kSuffix)
        return -1;
    const char* begin = name.data() + kPrefix.size();
    const char* end = name.data() + name.size() - kSuffix.size();
    std::int64_t step = -1;
    const auto [stopped, error] = std::from_chars(begin, end, step);
    return error == std::errc() && stopped == end && step >= 0 && checkpoint_name(step) == name ? step : -1;
}

std::vector<CheckpointFile> list_checkpoints(const std::string& run) {
    const std::string folder = checkpoint_folder(run);
    std::vector<CheckpointFile> files;
    if (!is_folder(folder)) return files;
    for (const std::string& name : names_in(folder))
        if (const std::int64_t step = step_of_checkpoint(name); step >= 0) files.push_back({step, folder + "/" + name});
    std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
    return files;
}

std::string newest_checkpoint(const std::string& run_or_file) {
    require(file_exists(run_or_file), "there is no checkpoint or run folder ", run_or_file,
            "; give a file of RUN/checkpoints or the --run folder of a training");
    if (!is_folder(run_or_file)) return run_or_file;
    const std::vector<CheckpointFile> files = list_checkpoints(run_or_file);
    require(!files.empty(), run_or_file, " has no checkpoint (", checkpoint_folder("."),
            "/step-*.h5); give the --run folder of a training that has saved one");
    return files.back().path;
}

void verify_checkpoint(const std::string& path, const std::function<void()>& progress) {
    const NamedTensorReader reader(path, kCheckpointFormat, kCheckpointVersion);
    reader.verify_all(progress);
    require_step_of_name(path, parse_json(reader.attributes(), path));
}

void require_step_of_name(const std::string& path, const Json& attributes) {
    const std::int64_t named = step_of_checkpoint(path);
    if (named < 0) return;
    const std::int64_t step = get_integer(attributes, "step", path);
    require(step == named, path, " has the state after step ", step, ", not after step ", named,
            "; give it its own name, ", checkpoint_name(step), ", or move it away");
}

namespace {

bool has_damaged(const std::string& run) {
    const std::string folder = checkpoint_folder(run);
    if (!is_folder(folder)) return false;
    const std::vector<std::string> names = names_in(folder);
    return std::any_of(names.begin(), names.end(), [](const std::string& name) { return name.ends_with(".damaged"); });
}

/// Why a checkpoint does not verify; "" if it verifies. Reads it up to twice, the second time from the disk: a disk
/// or a network that failed once has not damaged the file.
std::string damage_of(const std::string& path, const std::function<void()>& progress) {
    std::string damage;
    for (int attempt = 0; attempt < 2; ++attempt) {
        // A file that may not be opened is not damaged: the user gets this Error.
        const FileHandle file = FileHandle::open_read(path);
        try {
            if (attempt > 0) file.forget_cached();
            verify_checkpoint(path, progress);
            return {};
        } catch (const Error& error) {
            damage = error.what();
        }
    }
    return damage;
}

}  // namespace

Resumable find_checkpoint_to_resume(const std::string& run, const std::function<void()>& progress) {
    Resumable found;
    for (std::vector<CheckpointFile> files = list_checkpoints(run); !files.empty() && found.path.empty();
         files.pop_back()) {
        const std::string& path = files.back().path;
        if (const std::string damage = damage_of(path, progress); damage.empty()) found.path = path;
        else found.damaged.push_back({path, damage});
    }
    return found;
}

void refuse_if_only_damaged(const std::string& run, const Resumable& found) {
    if (!found.path.empty() || (found.damaged.empty() && !has_damaged(run))) return;
    fail(text(
        found.damaged.empty()
            ? ""
            : text("the checkpoint ", found.damaged.front().path, " is damaged (", found.damaged.front().why, "); "),
        "no checkpoint of ", run, " verifies; give another --run to start from the beginning, or delete the files in ",
        checkpoint_folder(run)));
}

std::vector<std::string> set_damaged_aside(const Resumable& found) {
    std::vector<std::string> notes;
    for (const auto& [path, why] : found.damaged) {
        const std::string aside = free_name(path, ".damaged");
        rename_file(path, aside);
        notes.push_back(text("the checkpoint ", path, " is damaged (", why, "); it was moved to ",
                             std::filesystem::path(aside).filename().string()));
    }
    return notes;
}

bool is_partial_name(const std::string& name) {
    static const std::regex pattern(
        "(manifest\\.json|metrics\\.jsonl|metrics\\.discarded\\.jsonl|status\\.json(\\.[a-z]+[0-9]*)?|latest|"
        "lock\\.[0-9a-f]{16}|step-[0-9]{8,}\\.h5(\\.[0-9a-f]{16})?)\\.partial");
    return std::regex_match(name, pattern);
}

void remove_partials(const std::string& run) {
    for (const std::string& folder : {run, checkpoint_folder(run)}) {
        if (!is_folder(folder)) continue;
        for (const std::string& name : names_in(folder)) {
            const std::string path = folder + "/" + name;
            std::error_code error;
            if (is_partial_name(name) && std::filesystem::is_regular_file(std::filesystem::symlink_status(path, error)))
                remove_file(path);
        }
    }
}

void discard_checkpoints_after(const std::string& run, std::int64_t step) {
    std::vector<CheckpointFile> files = list_checkpoints(run);
    if (files.empty() || files.back().step <= step) return;
    for (; !files.empty() && files.back().step > step; files.pop_back())
        rename_file(files.back().path, free_name(files.back().path, ".discarded"));
    if (!files.empty()) set_latest(run, checkpoint_name(files.back().step));
    else remove_file(checkpoint_folder(run) + "/latest");
}

void set_latest(const std::string& run, const std::string& name) {
    write_text_file(checkpoint_folder(run) + "/latest", name + "\n");
}

void remove_old_checkpoints(const std::string& run, std::int64_t keep_checkpoints, std::int64_t last_good) {
    const std::vector<CheckpointFile> files = list_checkpoints(run);
    const auto surplus = static_cast<std::int64_t>(files.size()) - std::max<std::int64_t>(keep_checkpoints, 1);
    for (std::int64_t i = 0; i < surplus; ++i)
        if (files[i].step != last_good) remove_file(files[i].path);
}

}  // namespace longlora
