// The process is ended without cleaning up: the main thread may hang inside MPI. Of all ranks that see the standstill,
// one tells it.
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

constexpr double kStopPatience = 60;   // seconds without progress once a stop was asked
constexpr double kWaitingSeconds = 2;  // who waits says so all the time
constexpr double kStoppedSeconds = 3;  // a thread that only sleeps is not so late on a machine that runs it
constexpr double kFilesPatience = 5;   // for a disk, at the end
constexpr int kLookers = 8;  // ranks that read the others' files as soon as it may be needed; all at once would be too
                             // much for a file system
constexpr double kTurnSeconds = 0.3;  // from one rank to the next where nobody knows who speaks
constexpr double kSpeakersTime =
    16;  // for the rank that speaks: it may see the standstill a beat later, and needs the disk twice
constexpr double kLongestEnd = 60;  // seconds, whatever holds it up

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

/// The disk's thread first: should the disk hold it up, the other one still watches.
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
    begins_ = true;
    changed_.notify_all();
}

double Watchdog::patience() const {
    const bool hurry = options_.stop_asked && options_.stop_asked() && !stopping_;
    return hurry ? std::min(options_.timeout_seconds, kStopPatience) : options_.timeout_seconds;
}

double Watchdog::beat_seconds() const { return std::clamp(options_.timeout_seconds / 60, 0.1, 5.0); }

RankState Watchdog::state(std::int64_t beat) const {
    return {options_.rank, token_, host_, getpid(), beat, step_, now() - waited_ < kWaitingSeconds, now() - worked_};
}

/// Half-way through the patience and at its end the ranks' signs of life are looked at: what did not change in between
/// is dead.
void Watchdog::keep_time() {
    const double interval = std::min(0.5, options_.timeout_seconds / 20);
    double last = now();
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, in_seconds(interval), [this] { return stop_time_; })) {
        // While this process was stopped it could not see the others work: that time does not count.
        const double gap = now() - std::exchange(last, now());
        if (gap > interval + kStoppedSeconds) {
            progress_ = std::min(now(), progress_ + gap);
            looks_wanted_ = looks_done_ = 0;
        }
        const double still = now() - progress_, limit = patience();
        if (still < limit / 2) looks_wanted_ = looks_done_ = 0;
        else if (looks_wanted_ == 0 && options_.rank < kLookers) looks_wanted_ = 1, changed_.notify_all();
        if (still > limit) end(lock, still);
    }
}

/// Two looks at the ranks' files, far enough apart for every rank to give a sign of life in between. False if the disk
/// does not answer.
bool Watchdog::look_twice(std::unique_lock<std::mutex>& lock) {
    for (const int look : {1, 2}) {
        if (look == 2) wait_unlocked(lock, std::max(0.0, looked_ + 2 * beat_seconds() + kTurnSeconds - now()));
        looks_wanted_ = std::max(looks_wanted_, look);
        changed_.notify_all();
        if (!changed_.wait_for(lock, in_seconds(kFilesPatience), [this, look] { return looks_done_ >= look; }))
            return false;
    }
    return true;
}

void Watchdog::end(std::unique_lock<std::mutex>& lock, double still) {
    const Deadline whatever_holds_it_up(
        kLongestEnd, static_cast<int>(ExitCode::communication));  // given up if the run goes on after all
    const bool asked = still < options_.timeout_seconds;
    if (options_.rank >= kLookers) wait_unlocked(lock, kSpeakersTime);
    const bool seen = look_twice(lock);
    if (!run_.empty() && now() - progress_ < still / 2) return;  // somebody woke up meanwhile
    Standstill who;
    if (!seen) who.sentence = text("the disk of the run folder does not answer rank ", options_.rank, " on ", host_);
    else if (!run_.empty()) who = who_stands_still(looks_[0], looks_[1], options_.num_ranks, still / 2);
    // One rank tells it, and when that leaves the launcher ends the others. Each does so in its turn if it does not
    // come to that.
    if (who.speaker != options_.rank)
        wait_unlocked(lock, who.speaker >= 0 ? kSpeakersTime : std::min(5.0, kTurnSeconds * options_.rank));
    sentence_ = text(asked ? "asked to stop, but the step cannot be finished: no" : "no", " progress for ",
                     duration_text(still), asked ? "" : " (--timeout)", who.sentence.empty() ? "" : ": " + who.sentence,
                     options_.way_out.empty() ? "" : "; " + options_.way_out);
    changed_.notify_all();
    changed_.wait_for(lock, in_seconds(kFilesPatience), [this] { return recorded_; });
    std::fprintf(stderr, "longlora: %s\n", sentence_.c_str());
    _exit(static_cast<int>(ExitCode::communication));
}

/// Writes this rank's sign of life, reads those of all when wanted, records a standstill. The mutex is given up for the
/// disk.
void Watchdog::keep_files() {
    const auto attempt = [](const auto& work) {
        try {
            work();
        } catch (const std::exception&) {
            // a disk that fails: signs of life are tried again, a standstill is told on stderr all the same
        }
    };
    std::unique_lock lock(mutex_);
    for (std::int64_t beat = 1; !stop_files_; ++beat) {
        const int looks = looks_done_;
        const bool wanted = looks_wanted_ > looks, tell = !sentence_.empty() && !recorded_;
        const std::string run = run_, token = token_, sentence = sentence_;
        const RankState mine = state(beat);
        const auto record = record_;
        begins_ = false;
        std::vector<RankState> states;
        lock.unlock();
        if (!run.empty()) {
            attempt([&] { write_rank_state(run, mine); });
            if (wanted) attempt([&] { states = read_rank_states(run, token, options_.num_ranks); });
            if (tell && record) attempt([&] { record(sentence); });
        }
        lock.lock();
        if (wanted && looks_wanted_ > looks) {  // else the standstill is over
            looks_[looks] = std::move(states);
            looks_done_ = looks + 1;
            if (looks == 0) looked_ = now();
        }
        recorded_ = recorded_ || tell;
        changed_.notify_all();
        changed_.wait_for(lock, in_seconds(beat_seconds()), [this] {
            return stop_files_ || begins_ || looks_wanted_ > looks_done_ || (!sentence_.empty() && !recorded_);
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

void leave_within(double seconds, int code) {
    static_cast<void>(new Deadline(seconds, code));
}  // as long as the process lives

}  // namespace longlora
