// The process is ended without cleaning up: the main thread may hang inside MPI. Of all ranks that see the standstill, one tells it.
#include "jobs/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "core/clock.h"
#include "core/error.h"

namespace longlora {
namespace {

constexpr double kStopPatience = 60;         // seconds without progress once a stop was asked
constexpr double kWaitingSeconds = 2;        // who waits says so all the time
constexpr double kStoppedSeconds = 3;          // a thread that only sleeps is never so late on a machine that runs it
constexpr double kFilesPatience = 5;         // for a disk, at the end
constexpr double kTurnSeconds = 0.3;
constexpr double kSpeakersTime = 2;          // before the others leave too

std::chrono::duration<double> in_seconds(double s) { return std::chrono::duration<double>(s); }

void wait_unlocked(std::unique_lock<std::mutex>& lock, double seconds) {
    lock.unlock();
    std::this_thread::sleep_for(in_seconds(seconds));
    lock.lock();
}

std::string name_of_host() {
    char host[256] = {};
    gethostname(host, sizeof host - 1);
    return host;
}

}  // namespace

double Watchdog::now() { return now_seconds(); }

Watchdog::Watchdog(const WatchdogOptions& options)
    : options_(options), host_(name_of_host()), progress_(now()), worked_(now()), files_thread_([this] { keep_files(); }), time_thread_([this] { keep_time(); }) {}

Watchdog::~Watchdog() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    time_thread_.join();
    files_thread_.join();
}

void Watchdog::works() { progress_ = worked_ = now(); }
void Watchdog::hears() { progress_ = now(); }

void Watchdog::watch_run(const std::string& run, std::function<void(const std::string&, int)> record) {
    const std::lock_guard lock(mutex_);
    run_ = run;
    record_ = std::move(record);
    begins_ = true;
    changed_.notify_all();
}

double Watchdog::patience() const {
    return options_.stop_asked && options_.stop_asked() ? std::min(options_.timeout_seconds, kStopPatience) : options_.timeout_seconds;
}

RankState Watchdog::state(std::int64_t beat) const {
    return {options_.rank, host_, getpid(), beat, step_, now() - waited_ < kWaitingSeconds, now() - worked_};
}

/// Half-way through the patience and at its end the ranks' signs of life are looked at: what did not change in between is dead.
void Watchdog::keep_time() {
    const double interval = std::min(0.5, options_.timeout_seconds / 20);
    double last = now();
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, in_seconds(interval), [this] { return stop_; })) {
        // While this process was stopped it could not see the others work, and what it would say of them is not true.
        const double gap = now() - std::exchange(last, now());
        if (gap > interval + kStoppedSeconds) progress_ = now(), looks_wanted_ = looks_done_ = 0;
        const double still = now() - progress_, limit = patience();
        if (still < limit / 2) looks_wanted_ = looks_done_ = 0;
        else if (looks_wanted_ == 0) looks_wanted_ = 1, changed_.notify_all();
        if (still > limit) {
            lock.unlock();
            end(still);
        }
    }
}

void Watchdog::end(double still) {
    std::unique_lock lock(mutex_);
    looks_wanted_ = 2;
    changed_.notify_all();
    const bool seen = changed_.wait_for(lock, in_seconds(kFilesPatience), [this] { return looks_done_ == 2; });
    Standstill who{seen ? "" : text("the disk of the run folder does not answer rank ", options_.rank, " on ", host_), options_.rank};
    if (seen && !run_.empty()) who = who_stands_still(looks_[0], looks_[1], options_.num_ranks, still / 2);
    else wait_unlocked(lock, std::min(5.0, kTurnSeconds * options_.rank));   // nobody knows who speaks: one after the other, and the launcher ends the rest
    if (who.speaker >= 0 && who.speaker != options_.rank) {
        wait_unlocked(lock, kSpeakersTime);
        _exit(static_cast<int>(ExitCode::communication));
    }
    const bool asked = still < options_.timeout_seconds;
    sentence_ = text(asked ? "asked to stop, but the step cannot be finished: no" : "no", " progress for ", duration_text(still), asked ? "" : " (--timeout)",
                     who.sentence.empty() ? "" : ": " + who.sentence, options_.way_out.empty() ? "" : "; " + options_.way_out);
    changed_.notify_all();
    changed_.wait_for(lock, in_seconds(kFilesPatience), [this] { return recorded_; });
    std::fprintf(stderr, "longlora: %s\n", sentence_.c_str());
    _exit(static_cast<int>(ExitCode::communication));
}

/// Writes this rank's sign of life, reads those of all when wanted, records a standstill. The mutex is given up for the disk.
void Watchdog::keep_files() {
    const double interval = std::clamp(options_.timeout_seconds / 60, 0.1, 5.0);
    const auto attempt = [](const auto& work) {
        try {
            work();
        } catch (const std::exception&) {
            // a disk that fails: signs of life are tried again, a standstill is told on stderr all the same
        }
    };
    std::unique_lock lock(mutex_);
    for (std::int64_t beat = 1; !stop_; ++beat) {
        const int looks = looks_done_;
        const bool wanted = looks_wanted_ > looks, tell = !sentence_.empty() && !recorded_;
        const std::string run = run_, sentence = sentence_;
        const auto record = record_;
        begins_ = false;
        std::vector<RankState> states;
        lock.unlock();
        if (!run.empty()) {
            attempt([&] { write_rank_state(run, state(beat)); });
            if (wanted) attempt([&] { states = read_rank_states(run, options_.num_ranks); });
            if (tell && record) attempt([&] { record(sentence, static_cast<int>(ExitCode::communication)); });
        }
        lock.lock();
        if (wanted && looks_wanted_ > looks) {   // else the standstill is over
            looks_[looks] = std::move(states);
            looks_done_ = looks + 1;
        }
        recorded_ = recorded_ || tell;
        changed_.notify_all();
        changed_.wait_for(lock, in_seconds(interval), [this] { return stop_ || begins_ || looks_wanted_ > looks_done_ || (!sentence_.empty() && !recorded_); });
    }
}

void leave_within(double seconds, int code) {
    std::thread([seconds, code] {
        std::this_thread::sleep_for(in_seconds(seconds));
        _exit(code);
    }).detach();
}

}  // namespace longlora
