// The process ends without cleaning up, because the main thread may hang inside MPI. Of all ranks that see a
// standstill one prints the sentence, "the reporting_rank".
#include "jobs/process/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "core/clock.h"
#include "core/error.h"
#include "core/host.h"

namespace longlora {
namespace {

// All times are in seconds.
constexpr double kStopPatience = 60;   // the time without progress that is enough once a stop was asked
constexpr double kWaitingSeconds = 2;  // a waiting rank calls note_waiting() more often than this
constexpr double kStoppedSeconds = 3;  // a sleeping thread that wakes up later than this was stopped
constexpr double kFilesPatience = 5;   // how long end() waits for the disk, each time
// The ranks below this number read the files of all ranks half-way through the patience. If all ranks did so at once,
// it would be too much for a file system.
constexpr int kNumReaders = 8;
constexpr double kTurnSeconds = 0.3;  // between the turns of two ranks if no rank knows the reporting_rank
// The time that the reporting_rank gets: it may see the standstill a heartbeat later, and needs the disk twice.
constexpr double kSpeakersTime = 16;
constexpr double kLongestEnd = 60;  // the longest time that end() may take, whatever holds it up

std::chrono::duration<double> in_seconds(double s) { return std::chrono::duration<double>(s); }

void wait_unlocked(std::unique_lock<std::mutex>& lock, double seconds) {
    lock.unlock();
    std::this_thread::sleep_for(in_seconds(seconds));
    lock.lock();
}

}  // namespace

double Watchdog::now() { return now_seconds(); }

Watchdog::Watchdog(const WatchdogOptions& options)
    : options_(options),
      host_(host_name()),
      progress_(now()),
      worked_(now()),
      files_thread_([this] { keep_files(); }),
      time_thread_([this] { keep_time(); }) {}

/// Stops the thread that uses the disk first: if the disk holds it up, the other thread still watches.
Watchdog::~Watchdog() {
    for (auto [stop, thread] : {std::pair{&stop_files_, &files_thread_}, std::pair{&stop_time_, &time_thread_}}) {
        {
            const std::lock_guard lock(mutex_);
            *stop = true;
        }
        changed_.notify_all();
        thread->join();
    }
}

void Watchdog::note_work() { progress_ = worked_ = now(); }
void Watchdog::note_others_work() { progress_ = now(); }

void Watchdog::watch_run(const std::string& run, const std::string& token,
                         std::function<void(const std::string&)> record) {
    const std::lock_guard lock(mutex_);
    run_ = run;
    token_ = token;
    record_ = std::move(record);
    folder_is_new_ = true;
    changed_.notify_all();
}

void Watchdog::enter(const std::string& phase) {
    const std::lock_guard lock(mutex_);
    phase_ = phase;
}

void Watchdog::set_way_out(const std::string& way_out) {
    const std::lock_guard lock(mutex_);
    way_out_ = way_out;
}

double Watchdog::patience() const {
    const bool hurry = options_.stop_asked && options_.stop_asked() && !stopping_;
    return hurry ? std::min(options_.timeout_seconds, kStopPatience) : options_.timeout_seconds;
}

double Watchdog::heartbeat_seconds() const { return std::clamp(options_.timeout_seconds / 60, 0.1, 5.0); }

RankState Watchdog::state(std::int64_t heartbeat_count) const {
    return {options_.rank,  token_, host_, getpid(), heartbeat_count, step_, now() - waited_ < kWaitingSeconds,
            now() - worked_};
}

/// Watches the time. Half-way through the patience and at its end the heartbeat files of all ranks are read; a rank
/// whose file did not change in between is dead or stopped.
void Watchdog::keep_time() {
    const double interval = std::min(0.5, options_.timeout_seconds / 20);
    double last = now();
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, in_seconds(interval), [this] { return stop_time_; })) {
        // While this process was stopped it could not see the others work, so that time does not count.
        const double gap = now() - std::exchange(last, now());
        if (gap > interval + kStoppedSeconds) {
            progress_ = std::min(now(), progress_ + gap);
            readings_wanted_ = readings_done_ = 0;
        }
        const double still = now() - progress_, limit = patience();
        if (still < limit / 2) readings_wanted_ = readings_done_ = 0;
        else if (readings_wanted_ == 0 && options_.rank < kNumReaders) readings_wanted_ = 1, changed_.notify_all();
        if (still > limit) end(lock, still);
    }
}

/// Makes sure that the files of all ranks are read twice, far enough apart for every rank to write a heartbeat in
/// between. False if the disk does not answer.
bool Watchdog::read_twice(std::unique_lock<std::mutex>& lock) {
    for (const int look : {1, 2}) {
        if (look == 2)
            wait_unlocked(lock, std::max(0.0, last_reading_ + 2 * heartbeat_seconds() + kTurnSeconds - now()));
        readings_wanted_ = std::max(readings_wanted_, look);
        changed_.notify_all();
        if (!changed_.wait_for(lock, in_seconds(kFilesPatience), [this, look] { return readings_done_ >= look; }))
            return false;
    }
    return true;
}

void Watchdog::end(std::unique_lock<std::mutex>& lock, double still) {
    // Its destructor cancels it if the run makes progress after all.
    const Deadline whatever_holds_it_up(kLongestEnd, static_cast<int>(ExitCode::communication));
    const bool asked = still < options_.timeout_seconds;
    if (options_.rank >= kNumReaders) wait_unlocked(lock, kSpeakersTime);
    const bool seen = read_twice(lock);
    if (!run_.empty() && now() - progress_ < still / 2) return;  // a rank made progress meanwhile
    Standstill who;
    if (!seen) who.sentence = text("the disk of the run folder does not answer rank ", options_.rank, " on ", host_);
    else if (!run_.empty()) who = find_stuck_ranks(readings_[0], readings_[1], options_.num_ranks, still / 2);
    // The reporting_rank prints the sentence and leaves, and then the launcher ends the other ranks. In case that does
    // not happen, each other rank prints the sentence in its turn.
    if (who.reporting_rank != options_.rank)
        wait_unlocked(lock, who.reporting_rank >= 0 ? kSpeakersTime : std::min(5.0, kTurnSeconds * options_.rank));
    sentence_ = text(asked ? "asked to stop, but there is no" : "no", " progress for ", duration_text(still),
                     asked ? "" : " (--timeout)", phase_.empty() ? "" : " while " + phase_,
                     who.sentence.empty() ? "" : ": " + who.sentence, way_out_.empty() ? "" : "; " + way_out_);
    changed_.notify_all();
    changed_.wait_for(lock, in_seconds(kFilesPatience), [this] { return recorded_; });
    std::fprintf(stderr, "longlora: %s\n", sentence_.c_str());
    _exit(static_cast<int>(ExitCode::communication));
}

/// Writes the heartbeat file of this rank, reads those of all ranks when asked, and records a standstill. It does not
/// hold the mutex while it uses the disk.
void Watchdog::keep_files() {
    const auto attempt = [](const auto& work) {
        try {
            work();
        } catch (const std::exception&) {
            // The disk fails: heartbeats are tried again, and a standstill is still printed to stderr.
        }
    };
    std::unique_lock lock(mutex_);
    for (std::int64_t heartbeat_count = 1; !stop_files_; ++heartbeat_count) {
        const int looks = readings_done_;
        const bool wanted = readings_wanted_ > looks, tell = !sentence_.empty() && !recorded_;
        const std::string run = run_, token = token_, sentence = sentence_;
        const RankState mine = state(heartbeat_count);
        const auto record = record_;
        folder_is_new_ = false;
        std::vector<RankState> states;
        lock.unlock();
        if (!run.empty()) {
            attempt([&] { write_rank_state(run, mine); });
            if (wanted) attempt([&] { states = read_rank_states(run, token, options_.num_ranks); });
            if (tell && record) attempt([&] { record(sentence); });
        }
        lock.lock();
        if (wanted && readings_wanted_ > looks) {  // otherwise the standstill is over
            readings_[looks] = std::move(states);
            readings_done_ = looks + 1;
            if (looks == 0) last_reading_ = now();
        }
        recorded_ = recorded_ || tell;
        changed_.notify_all();
        changed_.wait_for(lock, in_seconds(heartbeat_seconds()), [this] {
            return stop_files_ || folder_is_new_ || readings_wanted_ > readings_done_ ||
                   (!sentence_.empty() && !recorded_);
        });
    }
}

Deadline::Deadline(double seconds, int code)
    : thread_([this, seconds, code] {
          std::unique_lock lock(mutex_);
          if (!changed_.wait_for(lock, in_seconds(seconds), [this] { return met_; })) _exit(code);
      }) {}

Deadline::~Deadline() {
    {
        const std::lock_guard lock(mutex_);
        met_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void exit_within(double seconds, int code) {
    static_cast<void>(new Deadline(seconds, code));  // never destroyed, so it lives as long as the process
}

}  // namespace longlora
