// The lock's life: create exclusively, or watch the holder until it shows life or is stale; then a thread advances the
// counter in place. A stale lock is renamed away, and what was renamed is looked at again: of two that find it stale,
// one goes on, and who took a fresh lock puts it back.
#include "run/lock.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <random>
#include <string_view>
#include <thread>

#include "core/clock.h"
#include "core/error.h"
#include "core/host.h"
#include "io/file.h"

namespace longlora {
namespace {

constexpr double kPollSeconds = 0.1;

std::string lock_path(const std::string& run) { return run + "/lock"; }

/// What /proc says of a process; start is -1 where that cannot be read (there is no such process, or others may not
/// look at it).
struct ProcessState {
    std::int64_t start = -1;  // clock ticks since boot
    char state = '?';         // man 5 proc: R, S, D, T (stopped), Z (ended and not yet waited for) ...
};

ProcessState state_of_process(std::int64_t process) {
    ProcessState out;
    try {
        const std::string stat = read_text_file(text("/proc/", process, "/stat"));
        const std::size_t end = stat.rfind(')');  // of the name, which may hold anything
        if (end == std::string::npos || end + 2 >= stat.size()) return out;
        out.state = stat[end + 2];
        std::istringstream fields(stat.substr(end + 2));
        std::string field;
        for (int i = 3; i <= 22; ++i) fields >> field;  // man 5 proc: (22) starttime
        out.start = std::strtoll(field.c_str(), nullptr, 10);
    } catch (const Error&) {
    }
    return out;
}

std::string machine_of_this_process() {
    std::string boot;
    try {
        boot = read_text_file("/proc/sys/kernel/random/boot_id");
    } catch (const Error&) {
    }
    std::error_code error;
    const std::string processes = std::filesystem::read_symlink("/proc/self/ns/pid", error).string();
    return boot.empty() || error ? "" : boot.substr(0, boot.find('\n')) + " " + processes;
}

LockHolder this_process(const JobIdentity& job) {
    std::random_device random;
    char token[40];
    std::snprintf(token, sizeof token, "%08x%08x", random(), random());
    return {token, job, host_name(), machine_of_this_process(), getpid(), state_of_process(getpid()).start, 0};
}

/// As many bytes whatever the counter is, so that it can be written in place.
std::string content_of(const LockHolder& h) {
    char counter[24];
    std::snprintf(counter, sizeof counter, "%012lld", static_cast<long long>(h.counter));
    return to_line({{"token", h.token},
                    {"cluster", h.job.cluster},
                    {"job", h.job.id},
                    {"restart", h.job.restart},
                    {"host", h.host},
                    {"machine", h.machine},
                    {"process", h.process},
                    {"process_start", h.process_start},
                    {"counter", counter}}) +
           "\n";
}

LockHolder holder_of(const std::string& content, const std::string& where) {
    const Json json = parse_json(content, where);
    return {get_text(json, "token", where),
            {get_text(json, "cluster", where), get_text(json, "job", where), get_text(json, "restart", where)},
            get_text(json, "host", where),
            get_text(json, "machine", where),
            get_integer(json, "process", where),
            get_integer(json, "process_start", where),
            std::strtoll(get_text(json, "counter", where).c_str(), nullptr, 10)};
}

/// The file's bytes; false if there is no such file.
bool read_content(const std::string& path, std::string& content) {
    if (!file_exists(path)) return false;
    try {
        content = read_text_file(path);
    } catch (const Error&) {
        if (!file_exists(path)) return false;  // it went in between
        throw;
    }
    return true;
}

/// `path` is a name of the open file.
bool is_same_file(const FileHandle& file, const std::string& path) {
    struct stat ours {
    }, named{};
    return ::fstat(file.fd(), &ours) == 0 && ::stat(path.c_str(), &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

/// What is written in an incomplete lock (its maker was killed) is nobody.
LockHolder holder_or_nobody(const std::string& content) {
    try {
        return holder_of(content, "the lock");
    } catch (const Error&) {
        return {};
    }
}

}  // namespace

std::string holder_text(const LockHolder& h) {
    if (h.token.empty()) return "a process that wrote no name";
    const std::string job =
        h.job.id.empty()
            ? ""
            : text("job ", h.job.id,
                   h.job.restart == "0" || h.job.restart.empty() ? "" : text(" (restart ", h.job.restart, ")"), ", ");
    return text(job, "process ", h.process, " on ", h.host);
}

/// Only what is known counts: a process that may not be looked at is neither dead nor alive.
bool is_dead_here(const LockHolder& h) {
    if (h.machine.empty() || h.machine != machine_of_this_process()) return false;
    if (::kill(static_cast<pid_t>(h.process), 0) != 0 && errno == ESRCH) return true;
    const ProcessState now = state_of_process(h.process);
    return now.start >= 0 && h.process_start >= 0 &&
           (now.start != h.process_start || now.state == 'Z' || now.state == 'X');
}

bool is_awake_here(const LockHolder& h) {
    if (h.machine.empty() || h.machine != machine_of_this_process()) return false;
    const ProcessState now = state_of_process(h.process);
    return now.start >= 0 && now.start == h.process_start &&
           std::string_view("RSD").find(now.state) != std::string_view::npos;
}

bool read_lock(const std::string& run, LockHolder& holder) {
    std::string content;
    try {
        if (!read_content(lock_path(run), content)) return false;
    } catch (const Error&) {
        return false;
    }
    holder = holder_or_nobody(content);
    return !holder.token.empty();
}

bool is_lock_of(const std::string& run, const std::string& token) {
    LockHolder holder;
    return read_lock(run, holder) && holder.token == token;
}

/// The thread advances the counter; all else is the main thread's.
struct RunLock::State {
    const std::string run, path;
    const RunLockOptions options;
    LockHolder mine;
    FileHandle file;  // of the lock as we made it, wherever its name has gone
    std::mutex mutex;
    std::condition_variable changed;
    bool ends = false;
    std::thread thread;

    State(const std::string& folder, const RunLockOptions& o)
        : run(folder),
          path(lock_path(folder)),
          options(o),
          mine(this_process(o.job)) {}

    bool create() {
        FileHandle made = FileHandle::create_exclusive(path);
        if (!made) return false;
        try {
            const std::string content = content_of(mine);
            made.write_at(content.data(), static_cast<std::int64_t>(content.size()), 0);
            made.sync();
        } catch (const Error&) {
            if (is_same_file(made, path)) remove_file(path);
            throw;
        }
        file = std::move(made);
        return true;
    }

    /// Whether `content`, seen first at `since`, is that of a dead holder. An Error if the holder lives.
    bool is_stale(const std::string& content, const std::string& now, double since) const {
        const LockHolder holder = holder_or_nobody(now);
        require(now == content, "the run folder ", run, " is in use by ", holder_text(holder),
                "; wait until that ends, stop it, or take another --run");
        // A disk that others write to may hold up a living owner's counter; on this machine we know better.
        return now_seconds() - since > options.timeout_seconds && !is_awake_here(holder);
    }

    /// Renames the lock away if it still is `content`.
    void take_away(const std::string& content) const {
        const std::string aside = path + "." + mine.token + ".partial";  // a name that the next start clears away
        try {
            rename_file(path, aside);
        } catch (const Error&) {
            if (file_exists(path)) throw;
            return;  // another was faster
        }
        std::string taken;
        // If it was a fresh one it goes back. Should a third have made one meanwhile, it is that one's, and the owner
        // of this one sees so before its next rename.
        if (read_content(aside, taken) && taken != content) static_cast<void>(::link(aside.c_str(), path.c_str()));
        remove_file(aside);
    }

    /// Until the lock that lies there may be taken; an Error if its holder lives.
    void watch_until_stale() const {
        std::string first, now;
        if (!read_content(path, first)) return;
        const LockHolder holder = holder_or_nobody(first);
        const bool dead =
            !holder.token.empty() &&
            (is_dead_here(holder) || (!holder.job.id.empty() && options.has_ended && options.has_ended(holder)));
        bool told = false;
        for (const double since = now_seconds(); !dead;) {
            std::this_thread::sleep_for(std::chrono::duration<double>(kPollSeconds));
            if (options.waiting) options.waiting();
            if (!read_content(path, now)) return;
            if (is_stale(first, now, since)) break;
            if (!told && options.say && now_seconds() - since > 3 * options.beat_seconds) {
                options.say(text("the run folder ", run, " has a lock of ", holder_text(holder), "; waiting for up to ",
                                 duration_text(options.timeout_seconds), " for a sign of life of it"));
                told = true;
            }
        }
        take_away(first);
        if (options.say)
            options.say(text("took over the lock of ", holder_text(holder), ", which ",
                             dead ? "has ended" : "shows no sign of life"));
    }

    void beat() {
        std::unique_lock lock(mutex);
        while (!changed.wait_for(lock, std::chrono::duration<double>(options.beat_seconds), [this] { return ends; })) {
            ++mine.counter;
            const std::string content = content_of(mine);
            try {
                file.write_at(content.data(), static_cast<std::int64_t>(content.size()), 0);
                file.sync();  // so that other machines see it
            } catch (const Error&) {
                // a full or failing disk: tried again at the next beat
            }
        }
    }
};

RunLock::RunLock(const std::string& run, const RunLockOptions& options)
    : state_(std::make_unique<State>(run, options)) {
    while (!state_->create()) state_->watch_until_stale();
    state_->thread = std::thread([s = state_.get()] { s->beat(); });
}

RunLock::~RunLock() {
    {
        const std::lock_guard lock(state_->mutex);
        state_->ends = true;
    }
    state_->changed.notify_all();
    state_->thread.join();
    try {
        if (is_lock_of(state_->run, token())) remove_file(state_->path);
    } catch (const Error&) {
        // it goes stale by itself
    }
}

const std::string& RunLock::token() const { return state_->mine.token; }

/// Held: the name is that of our file, and nobody wrote another token into it (file numbers are used again). Who may
/// not read the new one's content sees its number.
void RunLock::require_held() const {
    const auto lost = [this](const std::string& who) {
        fail(text("the run folder ", state_->run, " was taken over by ", who,
                  " while this job stood still; this job ends and writes nothing more"));
    };
    struct stat named {};
    if (::stat(state_->path.c_str(), &named) != 0) {
        if (errno != ENOENT) return;                // a failing disk says nothing about the owner
        const std::lock_guard lock(state_->mutex);  // somebody removed it by hand
        if (state_->create()) return;
    }
    LockHolder holder;
    const bool readable = read_lock(state_->run, holder);
    if (readable && holder.token != token()) lost(holder_text(holder));
    if (!is_same_file(state_->file, state_->path) && file_exists(state_->path))
        lost(readable ? holder_text(holder) : "another job");
}

}  // namespace longlora
