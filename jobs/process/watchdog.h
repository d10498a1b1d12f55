// Watchdog: threads that end the process with exit code 5 when nobody makes progress for too long, so that a lost or
// stuck rank is never a hang, and that give signs of life in RUN/ranks. They call no MPI: the main thread may hang
// inside of it. One thread keeps the time and never touches a disk; another, which a disk may hold up, does.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "run/rank_files.h"

namespace longlora {

struct WatchdogOptions {
    double timeout_seconds = 600;
    int rank = 0, num_ranks = 1;
    std::function<bool()> stop_asked =
        {};  ///< a signal asked to stop: then a standstill of a minute is enough, as little time may be left
    std::string way_out = {};  ///< ends the sentence: what the user can do
};

class Watchdog {
public:
    explicit Watchdog(const WatchdogOptions& options);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    // By the main thread, or one that works for it:
    void note_work();                         ///< this rank did a part of its own work
    void note_others_work();                  ///< another did
    void note_waiting() { waited_ = now(); }  ///< this rank waits for others
    void finished(std::int64_t step) { step_ = step; }

    /// The loop acts on the stop that was asked: what is left is to save, for which there is the whole timeout again.
    void stopping() { stopping_ = true; }

    /// From now on signs of life go to RUN/ranks, with the `token` of this start, and a standstill to `record` (in a
    /// thread of the watchdog) before the process ends.
    void watch_run(const std::string& run, const std::string& token, std::function<void(const std::string&)> record);

private:
    static double now();
    double patience() const;
    void keep_time();
    void keep_files();
    double beat_seconds() const;
    bool look_twice(std::unique_lock<std::mutex>& lock);
    void end(std::unique_lock<std::mutex>& lock, double still);
    RankState state(std::int64_t beat) const;

    const WatchdogOptions options_;
    const std::string host_;
    std::atomic<std::int64_t> step_{0};
    std::atomic<double> progress_, worked_, waited_{-1e9};
    std::atomic<bool> stopping_ = false;
    std::mutex mutex_;
    std::condition_variable changed_;
    // guarded by mutex_
    bool stop_time_ = false, stop_files_ = false, begins_ = false;  // begins_: a folder was named just now
    std::string run_, token_, sentence_;                            // sentence_: to be recorded
    std::function<void(const std::string&)> record_;
    int looks_wanted_ = 0, looks_done_ = 0;  // of this standstill
    double looked_ = 0;                      // when the first was done
    bool recorded_ = false;
    std::vector<RankState> looks_[2];  // what RUN/ranks said half-way and at the end
    std::thread files_thread_, time_thread_;
};

/// Ends the process with `code` if it is not destroyed within `seconds`.
class Deadline {
public:
    Deadline(double seconds, int code);
    ~Deadline();
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool met_ = false;
    std::thread thread_;
};

/// Ends the process with `code` if it still lives after `seconds`. For the way out, where a library may wait for ranks
/// that are no more.
void leave_within(double seconds, int code);

}  // namespace longlora
