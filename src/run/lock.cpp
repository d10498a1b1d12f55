// Takes and keeps the lock. A new job creates the lock file exclusively, or watches the existing one until its
// counter advances (an Error) or it is stale. Then a thread advances the counter in place. To take over a stale lock,
// a job renames it away and reads the renamed file again: of two jobs that find the same stale lock, only one can
// rename it, and a job that renamed a fresh lock by mistake puts it back.
#include "run/lock.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <random>
#include <string_view>
#include <thread>

#include "core/clock.h"
#include "core/error.h"
#include "core/host.h"
#include "io/file.h"
#include "run/processes.h"

namespace longlora {
namespace {

constexpr double kPollSeconds = 0.1;
// A job that renamed a fresh lock away by mistake puts it back at once, so a lock that stays away for so long is gone.
constexpr double kPutBackSeconds = 1;

LockHolder this_process(const JobIdentity& job) {
    std::random_device random;
    char token[40];
    std::snprintf(token, sizeof token, "%08x%08x", random(), random());
    return {token, job, host_name(), machine_of_this_process(), getpid(), state_of_process(getpid()).start, 0};
}

/// The content of a lock file. Its length does not depend on the counter, so that it can be overwritten in place.
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

/// Reads the file; false if it does not exist.
bool read_content(const std::string& path, std::string& content) {
    if (!file_exists(path)) return false;
    try {
        content = read_text_file(path);
    } catch (const Error&) {
        if (!file_exists(path)) return false;  // it was removed meanwhile
        throw;
    }
    return true;
}

[[noreturn]] void fail_lost(const LockPlace& place, const std::string& who) {
    fail(text(place.thing, " was taken over by ", who,
              " while this job sent no heartbeat; this job ends and writes nothing more"));
}

/// Returns when the lock file exists. If it is gone, throws an Error.
void require_there(const LockPlace& place) {
    for (const double begin = now_seconds(); !file_exists(place.file) && errno == ENOENT;) {
        if (now_seconds() - begin > kPutBackSeconds)
            fail(text("the lock ", place.file, " of this job is gone: another job took over ", place.thing,
                      " and has ended, or somebody removed the lock; this job ends and writes nothing more"));
        std::this_thread::sleep_for(std::chrono::duration<double>(kPollSeconds));
    }
}

/// Whether `path` is a name of the open file.
bool is_same_file(const FileHandle& file, const std::string& path) {
    struct stat ours {
    }, named{};
    return ::fstat(file.fd(), &ours) == 0 && ::stat(path.c_str(), &named) == 0 && ours.st_dev == named.st_dev &&
           ours.st_ino == named.st_ino;
}

/// The holder that a lock names; an empty holder if the lock is incomplete because its maker was killed.
LockHolder holder_or_nobody(const std::string& content) {
    try {
        return holder_of(content, "the lock");
    } catch (const Error&) {
        return {};
    }
}

/// Whether a file can be a lock of this program, perhaps an incomplete one, whose maker was killed. Any other file is
/// somebody's work, whatever its name.
bool may_be_lock(const std::string& content) {
    const std::string begin = "{\"cluster\":\"";
    if (!holder_or_nobody(content).token.empty()) return true;
    return (content.starts_with(begin) || begin.starts_with(content)) && content.find('\n') == std::string::npos;
}

}  // namespace

std::string holder_text(const LockHolder& h) {
    if (h.token.empty()) return "an unknown process";
    const std::string job =
        h.job.id.empty()
            ? ""
            : text("job ", h.job.id,
                   h.job.restart == "0" || h.job.restart.empty() ? "" : text(" (restart ", h.job.restart, ")"), ", ");
    return text(job, "process ", h.process, " on ", h.host);
}

/// Only certain facts count: a process that this user may not look at is neither dead nor awake.
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

LockPlace lock_of_run(const std::string& run) { return {run + "/lock", "the run folder " + run, "give another --run"}; }

LockPlace lock_of_output(const std::string& output) {
    return {output + ".lock", "the output " + output, "name another output"};
}

bool read_lock(const LockPlace& place, LockHolder& holder) {
    std::string content;
    try {
        if (!read_content(place.file, content)) return false;
    } catch (const Error&) {
        return false;
    }
    holder = holder_or_nobody(content);
    return !holder.token.empty();
}

bool is_lock_of(const LockPlace& place, const std::string& token) {
    LockHolder holder;
    return read_lock(place, holder) && holder.token == token;
}

void require_lock_of(const LockPlace& place, const std::string& token) {
    require_there(place);
    LockHolder holder;
    const bool readable = read_lock(place, holder);
    if (!readable || holder.token != token) fail_lost(place, readable ? holder_text(holder) : "another job");
}

/// The thread writes the counter; the main thread does everything else.
struct LockFile::State {
    const LockPlace place;
    const std::string& path;
    const LockOptions options;
    LockHolder mine;
    FileHandle file;  // the lock file that this process created, even if another job has renamed it
    std::mutex mutex;
    std::condition_variable changed;
    bool ends = false;
    std::thread thread;

    State(const LockPlace& p, const LockOptions& o)
        : place(p),
          path(place.file),
          options(o),
          mine(this_process(o.job)) {}

    bool create() {
        FileHandle made = FileHandle::create_exclusive(path);
        if (!made) return false;
        try {
            const std::string content = content_of(mine);
            made.write_at(content.data(), content.size(), 0);
            made.sync();
        } catch (const Error&) {
            if (is_same_file(made, path)) remove_file(path);
            throw;
        }
        file = std::move(made);
        return true;
    }

    /// Whether the lock is stale: `content` is what the lock held at time `since`, `now` what it holds now. Throws an
    /// Error if the holder is alive: the content has changed, or the holder is awake on this machine.
    bool is_stale(const std::string& content, const std::string& now, double since) const {
        const LockHolder holder = holder_or_nobody(now);
        require(now == content, place.thing, " is in use by ", holder_text(holder),
                "; wait until that process ends, stop it, or ", place.way_out);
        if (now_seconds() - since <= options.timeout_seconds) return false;
        require(!is_awake_here(holder) || is_copy(holder), place.thing, " is in use by ", holder_text(holder),
                ", which runs, though it sent no heartbeat for ", duration_text(options.timeout_seconds),
                "; wait until that process ends, stop it, or ", place.way_out, " (if that process writes elsewhere, ",
                path, " is a copy: remove it)");
        return true;
    }

    /// Whether the lock file is a copy of the one that its holder, which is awake on this machine, keeps open: a folder
    /// was copied while its job ran. Other users of the disk may delay a living holder's counter, so silence alone does
    /// not show it. The open files of the process do; a file number in the lock would not, since nodes may number the
    /// files of one server differently, and older locks have none. On another node silence has to do, as always.
    bool is_copy(const LockHolder& holder) const { return has_open(holder.process, path) == Opened::no; }

    /// Renames the lock away and removes it if it still has this content. False if another job was faster.
    bool take_away(const std::string& content) const {
        const std::string aside = path + "." + mine.token + ".partial";  // the next start removes *.partial files
        std::string taken;
        if (!read_content(path, taken) || taken != content) return false;
        // Without fsync, so that a fresh lock that is renamed by mistake is away for a moment only.
        if (std::rename(path.c_str(), aside.c_str()) != 0) {
            const std::string reason = std::strerror(errno);
            require(!file_exists(path), "cannot take over the lock ", path, ": ", reason);
            return false;
        }
        // A fresh lock that was renamed by mistake is put back. If a third job has created a lock meanwhile, the
        // output belongs to that job, and the owner of this lock notices it before its next rename.
        const bool ours = read_content(aside, taken) && taken == content;
        if (!ours) static_cast<void>(::link(aside.c_str(), path.c_str()));
        remove_file(aside);
        return ours;
    }

    /// Returns when the existing lock was taken away or has vanished; an Error if its holder lives.
    void watch_until_stale() const {
        std::string first, now;
        std::error_code error;
        require(!std::filesystem::is_symlink(path, error), path,
                " is a link and no lock of this program; move it away, or ", place.way_out);
        if (!read_content(path, first)) return;
        require(may_be_lock(first), path, " exists and is no lock of this program; move it away, or ", place.way_out);
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
            if (!told && options.say && now_seconds() - since > 3 * options.heartbeat_seconds) {
                options.say(text(place.thing, " is locked by ", holder_text(holder), "; waiting up to ",
                                 duration_text(options.timeout_seconds), " for its heartbeat"));
                told = true;
            }
        }
        const char* why = dead                    ? "has ended"
                          : is_awake_here(holder) ? "runs, but holds another file: this one is a copy"
                                                  : "sends no heartbeat";
        if (take_away(first) && options.say)
            options.say(text("took over the lock of ", holder_text(holder), ", which ", why));
    }

    void beat() {
        std::unique_lock lock(mutex);
        while (!changed.wait_for(lock, std::chrono::duration<double>(options.heartbeat_seconds),
                                 [this] { return ends; })) {
            ++mine.counter;
            const std::string content = content_of(mine);
            try {
                file.write_at(content.data(), content.size(), 0);
                file.sync();  // so that other machines see the new counter
            } catch (const Error&) {
                // The disk is full or fails: the next heartbeat tries again.
            }
        }
    }
};

LockFile::LockFile(const LockPlace& place, const LockOptions& options)
    : state_(std::make_unique<State>(place, options)) {
    while (!state_->create()) state_->watch_until_stale();
    state_->thread = std::thread([s = state_.get()] { s->beat(); });
}

LockFile::~LockFile() {
    {
        const std::lock_guard lock(state_->mutex);
        state_->ends = true;
    }
    state_->changed.notify_all();
    state_->thread.join();
    try {
        if (is_lock_of(state_->place, token())) remove_file(state_->path);
    } catch (const Error&) {
        // The lock stays and becomes stale.
    }
}

const std::string& LockFile::token() const { return state_->mine.token; }

/// The lock is held if its name is the name of our file and no other job has written its token into that file (file
/// numbers are reused). Where the content of another job's lock may not be read, its file number shows that it is
/// another file.
void LockFile::require_held() const {
    const LockPlace& place = state_->place;
    require_there(place);
    LockHolder holder;
    const bool readable = read_lock(place, holder);
    if (readable && holder.token != token()) fail_lost(place, holder_text(holder));
    if (!is_same_file(state_->file, place.file) && file_exists(place.file))
        fail_lost(place, readable ? holder_text(holder) : "another job");
}

}  // namespace longlora
