// Watchdog: two threads that end the process with exit code 5 if no rank makes progress for too long, so that a lost
// or stuck rank never makes the job hang. They also write this rank's heartbeat file in RUN/ranks (run/rank_files.h).
// They call no MPI, because the main thread may hang inside MPI. One thread keeps the time and never touches a disk;
// the other reads and writes files and may be held up by a disk.
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
    /// Whether a signal asked to stop. Then a standstill of a minute is enough, because little time may be left.
    std::function<bool()> stop_asked = {};
};

class Watchdog {
public:
    explicit Watchdog(const WatchdogOptions& options);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    // Called by the main thread, or by a thread that works for it:
    void note_work();                         ///< this rank did a part of its own work
    void note_others_work();                  ///< another rank did
    void note_waiting() { waited_ = now(); }  ///< this rank waits for others
    void finished(std::int64_t step) { step_ = step; }

    /// What the ranks do from now on, such as "planning the step": a standstill's sentence names it.
    void enter(const std::string& phase);
    /// What the user can do after a standstill from now on; ends the sentence.
    void set_way_out(const std::string& way_out);

    /// The step loop has begun to act on the stop that was asked. What remains is to save, which may take the whole
    /// timeout again.
    void stopping() { stopping_ = true; }

    /// From now on the heartbeats of this rank go to RUN/ranks with the `token` of this start. A standstill is passed
    /// to `record`, in a thread of the watchdog, before the process ends.
    void watch_run(const std::string& run, const std::string& token, std::function<void(const std::string&)> record);

private:
    static double now();
    double patience() const;
    void keep_time();
    void keep_files();
    double heartbeat_seconds() const;
    bool read_twice(std::unique_lock<std::mutex>& lock);
    void end(std::unique_lock<std::mutex>& lock, double still);
    RankState state(std::int64_t heartbeat_count) const;

    const WatchdogOptions options_;
    const std::string host_;
    std::atomic<std::int64_t> step_{0};
    std::atomic<double> progress_, worked_, waited_{-1e9};
    std::atomic<bool> stopping_ = false;
    std::mutex mutex_;
    std::condition_variable changed_;
    // guarded by mutex_
    bool stop_time_ = false, stop_files_ = false,
         folder_is_new_ = false;          // folder_is_new_: watch_run() was called just now
    std::string run_, token_, sentence_;  // sentence_: describes the standstill to record
    std::string phase_, way_out_;
    std::function<void(const std::string&)> record_;
    int readings_wanted_ = 0, readings_done_ = 0;  // readings of RUN/ranks in this standstill
    double last_reading_ = 0;                      // when the first reading was done
    bool recorded_ = false;
    std::vector<RankState> readings_[2];  // the two readings: half-way through the patience and at its end
    std::thread files_thread_, time_thread_;
};

/// Ends the process with `code` unless this object is destroyed within `seconds`.
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

/// Ends the process with `code` if it still runs after `seconds`. For the end of the program, where a library may
/// wait for ranks that no longer exist.
void exit_within(double seconds, int code);

}  // namespace longlora
