// Writes the text files of a run so that a kill at any moment leaves each of them readable.
#include "run/folder.h"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <functional>

#include "core/error.h"
#include "io/own_file.h"
#include "run/checkpoint_files.h"
#include "run/rank_files.h"

namespace longlora {

namespace {

constexpr std::size_t kMostUnwritten = std::size_t{16} << 20;  // bytes of metrics kept while the disk is full

std::string metrics_path(const std::string& run) { return run + "/metrics.jsonl"; }
std::string discarded_path(const std::string& run) { return run + "/metrics.discarded.jsonl"; }

bool has_manifest(const std::string& run) {
    try {
        const Json manifest = Json::parse(read_text_file(run + "/manifest.json"), nullptr, false);
        return manifest.is_object() && manifest.contains("options") && manifest.contains("trainable");
    } catch (const Error&) {
        return false;
    }
}

bool may_be_in_run_folder(const std::string& name) {
    constexpr const char* kNames[] = {"manifest.json", "metrics.jsonl", "metrics.discarded.jsonl",
                                      "status.json",   "lock",          "checkpoints",
                                      "ranks",         "job",           "lost+found"};
    constexpr const char* kEnds[] = {".log", ".out", ".err", ".toml"};
    return name.starts_with('.') || is_partial_name(name) ||
           std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
           std::any_of(std::begin(kEnds), std::end(kEnds), [&](const char* end) { return name.ends_with(end); });
}

bool has_only(const std::string& folder, const std::function<bool(const std::string&)>& is_ours) {
    std::error_code error;
    for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
        const std::string name = at->path().filename().string();
        if (!name.starts_with('.') && !is_ours(name)) return false;
    }
    return !error;
}

/// Whether an entry of a folder that has neither a manifest nor checkpoints of ours is somebody else's, though its name
/// is one that a run uses. Metrics are never lost, so they may be anybody's.
bool is_somebody_elses(const std::string& run, const std::string& name) {
    if (name == "manifest.json") return !has_manifest(run);  // another job may have written ours just now
    if (name == "status.json") return !read_status(run).contains("updated");
    if (name == "checkpoints") return !has_only(run + "/" + name, is_partial_name);
    const auto is_number = [](const std::string& n) { return n.find_first_not_of("0123456789") == std::string::npos; };
    return name == "ranks" && !has_only(run + "/" + name, is_number);
}

bool ends_with(const std::string& content, const std::string& end) {
    return content.size() >= end.size() && content.compare(content.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    char out[32];
    std::strftime(out, sizeof out, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return out;
}

void require_run_folder(const std::string& run) {
    if (!is_folder(run) || !list_checkpoints(run).empty() || has_manifest(run)) return;
    std::error_code error;
    for (std::filesystem::directory_iterator at(run, error), end; !error && at != end; at.increment(error)) {
        const std::string name = at->path().filename().string();
        require(may_be_in_run_folder(name) && !is_somebody_elses(run, name), "the folder ", run, " has files (", name,
                ") but is no run folder; give --run a new or an empty folder");
    }
    require(!error, "cannot read the folder ", run, ": ", error.message());
}

void create_run_folder(const std::string& run) {
    create_folders(checkpoint_folder(run));
    create_rank_folder(run);
}

void write_manifest(const std::string& run, const Json& manifest) {
    write_text_file(run + "/manifest.json", manifest.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

TensorChecksums recorded_checksums(const std::string& run) {
    TensorChecksums checksums;
    if (!file_exists(run + "/manifest.json")) return checksums;
    std::string content;
    try {
        content = read_text_file(run + "/manifest.json");
    } catch (const Error&) {
        return checksums;
    }
    const Json manifest = Json::parse(content, nullptr, false);
    if (!manifest.is_object() || !manifest.contains("model_tensors") || !manifest["model_tensors"].is_object())
        return checksums;
    for (const auto& [name, checksum] : manifest["model_tensors"].items())
        if (checksum.is_number_unsigned()) checksums[name] = checksum.get<std::uint32_t>();
    return checksums;
}

MetricsLog::MetricsLog(const std::string& run) : file_(open_own_file(metrics_path(run))) { size_ = file_.size(); }

std::string MetricsLog::append(const Json& line) {
    const bool failed_before = !unwritten_.empty();
    unwritten_ += to_line(line) + "\n";
    try {
        return flush();
    } catch (const Error& error) {
        require(unwritten_.size() < kMostUnwritten, error.what(), "; ", unwritten_.size(),
                " bytes of metrics wait to be written; make room in the --run folder");
        return failed_before ? std::string()
                             : text(error.what(), "; the lines are kept and written when there is room again");
    }
}

/// Somebody may remove or replace the file, or link it into a copy of the folder, while the run goes on.
std::string MetricsLog::follow_name() {
    if (has_only_its_name(file_)) return {};
    const std::string path = file_.path();
    const bool removed = !file_exists(path), replaced = !removed && file_identity(path) != identity_of(file_);
    file_ = open_own_file(path);
    if (!removed && !replaced) return {};
    size_ = file_.size();
    return text("somebody ", removed ? "removed " : "replaced ", path, "; the next lines go to the new file");
}

std::string MetricsLog::flush() {
    if (unwritten_.empty()) return {};
    const std::string note = follow_name();
    file_.write_at(unwritten_.data(), unwritten_.size(), size_);
    size_ += static_cast<std::int64_t>(unwritten_.size());
    unwritten_.clear();
    return note;
}

void MetricsLog::sync() {
    flush();
    file_.sync();
}

std::int64_t discard_metrics_after(const std::string& run, std::int64_t step) {
    if (!file_exists(metrics_path(run))) return 0;
    const std::string content = read_text_file(metrics_path(run));
    std::string kept, moved;
    std::int64_t num_moved = 0;
    for (std::size_t begin = 0, end; begin < content.size(); begin = end) {
        const std::size_t newline = content.find('\n', begin);
        end = newline == std::string::npos ? content.size() : newline + 1;
        const std::string line = content.substr(begin, newline == std::string::npos ? newline : newline - begin);
        const Json json = Json::parse(line, nullptr, false);
        if (json.is_discarded() && end == content.size()) continue;  // a kill cut this line off
        const bool later = json.is_discarded() || (json.is_object() && json.contains("step") &&
                                                   json["step"].is_number() && json["step"] > step);
        (later ? moved : kept) += line + "\n";
        num_moved += later;
    }
    if (num_moved) {
        const std::string earlier =
            file_exists(discarded_path(run)) ? read_text_file(discarded_path(run)) : std::string();
        // If the lines are there already, an earlier call was killed between the two writes.
        if (!ends_with(earlier, moved)) write_text_file(discarded_path(run), earlier + moved);
    }
    if (kept != content) write_text_file(metrics_path(run), kept);
    return num_moved;
}

Json read_status(const std::string& run) {
    const std::string path = run + "/status.json";
    if (!file_exists(path)) return Json::object();
    const Json status = Json::parse(read_text_file(path), nullptr, false);
    return status.is_object() ? status : Json::object();
}

void record_failure(const std::string& run, ExitCode code, const std::string& message, const std::string& writer) {
    const Json status = read_status(run);
    if (code == ExitCode::communication && status.contains("state") && status["state"] == "failed") return;
    update_status(run, {{"state", "failed"}, {"exit_code", static_cast<int>(code)}, {"message", message}}, writer);
}

void update_status(const std::string& run, const Json& changes, const std::string& writer) {
    Json status = read_status(run);
    status.update(changes);
    status["updated"] = utc_now();
    write_text_file(run + "/status.json", to_line(status) + "\n", writer);
}

}  // namespace longlora
