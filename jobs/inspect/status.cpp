// status.json says how far the run came. The lock says whether a process still works in the run: its counter advances
// every second.
#include "jobs/inspect/status.h"

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <thread>

#include "core/clock.h"
#include "io/file.h"
#include "jobs/command_line/describe.h"
#include "jobs/inspect/kinds.h"
#include "jobs/process/slurm_job.h"
#include "run/checkpoint_files.h"
#include "run/folder.h"
#include "run/rank_files.h"

namespace longlora {
namespace {

std::string text_of(const Json& status, const char* key) {
    return status.contains(key) && status[key].is_string() ? status[key].get<std::string>() : "";
}
std::int64_t number_of(const Json& status, const char* key) {
    return status.contains(key) && status[key].is_number_integer() ? status[key].get<std::int64_t>() : 0;
}

/// "3 min ago"; `utc` itself if it is not a time.
std::string ago(const std::string& utc) {
    std::tm parts{};
    if (!strptime(utc.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts)) return utc;
    return duration_text(std::max(0.0, std::difftime(std::time(nullptr), timegm(&parts)))) + " ago";
}

enum class Life { none, lives, dead, silent };

/// Watches the lock: a counter that advances is a heartbeat.
Life life_of(const std::string& run, double watch_seconds, LockHolder& holder) {
    if (!read_lock(lock_of_run(run), holder)) return Life::none;
    if (is_dead_here(holder)) return Life::dead;
    for (const double begin = now_seconds(); now_seconds() - begin < watch_seconds;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        LockHolder later;
        if (!read_lock(lock_of_run(run), later)) return Life::none;
        if (later.token != holder.token || later.counter != holder.counter) return Life::lives;
    }
    return slurm_says_ended(holder, job_of_environment()) ? Life::dead : Life::silent;
}

std::string life_text(Life life, const LockHolder& holder, const Json& status, const std::string& run) {
    const std::string who = holder_text(holder);
    switch (life) {
        case Life::none:
            return "no";
        case Life::dead:
            return text(
                "no: ", who,
                " has ended without reporting it (killed, or its node is lost); the same command resumes the run");
        case Life::silent:
            return text("not known: ", who,
                        " sends no heartbeat; after --lock-timeout without one, the same command resumes the run");
        case Life::lives:
            break;
    }
    const auto ranks = static_cast<int>(number_of(status, "ranks"));
    double longest = 0;
    for (const RankState& s : read_rank_states(run, holder.token, ranks))
        longest = std::max(longest, s.waiting ? 0 : s.worked_seconds_ago);
    std::string out = text("yes: ", who, ", ", ranks, ranks == 1 ? " rank" : " ranks");
    if (longest > 60) out += text("; one rank has made no progress for ", duration_text(longest));
    return out;
}

/// "done (exit code 0)", or "stopped (exit code 75): MESSAGE; the same command resumes the run"
std::string state_text(const Json& status, Life life) {
    const std::string state = text_of(status, "state"), message = text_of(status, "message");
    std::string code;
    if (status.contains("exit_code") && status["exit_code"].is_number_integer())
        code = text(" (exit code ", number_of(status, "exit_code"), ")");
    const std::string extra = message.empty() ? "" : ": " + message;
    if (state == "running")
        return life == Life::lives    ? "running"
               : life == Life::silent ? "not known"
                                      : "interrupted without a last checkpoint";
    if (state == "stopped") return "stopped" + code + extra + "; the same command resumes the run";
    if (state.empty()) return "not started";
    return state + code + extra;
}

/// The last line in metrics.jsonl that describes a step.
Json last_step(const std::string& run) {
    constexpr std::int64_t kTail = 64 << 10;
    const std::string path = run + "/metrics.jsonl";
    if (!file_exists(path)) return {};
    const FileHandle file = FileHandle::open_read(path);
    const std::int64_t begin = std::max<std::int64_t>(0, file.size() - kTail);
    std::string tail(file.size() - begin, '\0');
    tail.resize(file.read_some(tail.data(), tail.size(), begin));
    Json found;
    for (std::size_t at = begin ? tail.find('\n') + 1 : 0, end; at < tail.size(); at = end + 1) {
        end = std::min(tail.find('\n', at), tail.size());
        Json line = Json::parse(tail.substr(at, end - at), nullptr, false);
        if (line.is_object() && line.contains("loss")) found = std::move(line);
    }
    return found;
}

std::string last_step_text(const Json& step) {
    const auto value = [&](const char* key) {
        return step.contains(key) && step[key].is_number() ? step[key].get<double>() : std::nan("");
    };
    char out[160];
    std::snprintf(out, sizeof out, "loss %.4f at step %.0f, %.0f tokens/s, %.3g s a step", value("loss"), value("step"),
                  value("tokens_per_second"), value("seconds"));
    return out;
}

std::string checkpoint_line(const std::string& run) {
    const std::vector<CheckpointFile> files = list_checkpoints(run);
    if (files.empty()) return inspect_line("checkpoints", "none yet");
    return inspect_line("checkpoints", text(files.size(), ", the last ", files.back().path));
}

std::string starts_text(const Json& status) {
    const std::int64_t starts = number_of(status, "starts");
    const std::string job = text_of(status, "job"), restart = text_of(status, "restart");
    std::string out = text(starts, ", the last ", ago(text_of(status, "started")), " on ", text_of(status, "host"));
    if (!job.empty())
        out += text(", job ", job, restart == "0" || restart.empty() ? "" : text(" (restart ", restart, ")"));
    return out;
}

}  // namespace

std::string status_text(const StatusOptions& options, double watch_seconds) {
    const std::string& run = options.run_folder;
    require(is_folder(run), "there is no run folder ", run, "; give the --run folder of a training");
    const Json status = read_status(run);
    require(!status.empty() || is_folder(checkpoint_folder(run)), run,
            " is not a run folder: it has neither status.json nor checkpoints; give the --run folder of a training");
    LockHolder holder;
    const Life life = life_of(run, watch_seconds, holder);
    const Json step = last_step(run);
    const std::int64_t done = step.is_object() && step.contains("step") ? step["step"].get<std::int64_t>()
                                                                        : number_of(status, "step"),
                       steps = number_of(status, "steps");
    std::string out = "run " + run + "\n" + inspect_line("state", state_text(status, life)) +
                      inspect_line("alive", life_text(life, holder, status, run));
    const std::string percent = steps > 0 ? text(" of ", grouped(steps), " (", 100 * done / steps, " %)") : "";
    const bool left = status.contains("seconds_left") && status["seconds_left"].is_number() && done < steps;
    out += inspect_line(
        "steps", grouped(done) + percent +
                     (left ? ", " + duration_text(status["seconds_left"].get<double>()) + " left at this speed" : ""));
    if (step.is_object()) out += inspect_line("", last_step_text(step));
    out += checkpoint_line(run) + inspect_line("starts", starts_text(status)) +
           inspect_line("updated", ago(text_of(status, "updated")));
    return out;
}

}  // namespace longlora
