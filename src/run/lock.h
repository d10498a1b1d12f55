// RunLock: one job at a time writes a run folder. RUN/lock is created exclusively, says who holds it, and holds a
// counter that its owner advances while it lives. Rank 0 only; no MPI. What a scheduler knows about its jobs comes from
// outside (jobs/process/slurm_job.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "io/json.h"

namespace longlora {

/// A job of a scheduler; all empty without one. A job that was requeued has the same id and another restart.
struct JobIdentity {
    std::string cluster, id, restart;
};

/// Who holds a lock, as the lock file says.
struct LockHolder {
    std::string token;  ///< of one start of the program, never twice
    JobIdentity job;
    std::string host;
    std::string machine;                          ///< boot and process namespace: where `process` is a number of
    std::int64_t process = 0, process_start = 0;  ///< the start tells a process from a later one of the same number
    std::int64_t counter = 0;
};

struct RunLockOptions {
    JobIdentity job;
    double timeout_seconds = 60;  ///< a lock is stale whose counter stands still so long, by this process's own clock
    double beat_seconds = 1;      ///< from one advance of the own counter to the next
    /// The holder's job is over, as the scheduler says. Asked once, only about holders with a job.
    std::function<bool(const LockHolder&)> has_ended;
    std::function<void()> waiting;                ///< called while it waits for a sign of life of the holder
    std::function<void(const std::string&)> say;  ///< sentences for the user
};

class RunLock {
public:
    /// Takes RUN/lock (RUN exists). An Error names the holder if it lives. A lock is taken over at once if its process
    /// is no more (on this machine) or its job is over, otherwise when its counter stands still for the timeout (and it
    /// is not known to be awake on this machine).
    RunLock(const std::string& run, const RunLockOptions& options);
    /// Gives it back.
    ~RunLock();
    RunLock(const RunLock&) = delete;
    RunLock& operator=(const RunLock&) = delete;

    const std::string& token() const;
    /// Reads the file again: an Error if it is another's now (this process stood still for so long that it was taken
    /// for dead). Before every rename in the run folder.
    void require_held() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Whether RUN/lock is there and names `token`.
bool is_lock_of(const std::string& run, const std::string& token);
/// The holder of RUN/lock; false if there is no lock, or none that can be read.
bool read_lock(const std::string& run, LockHolder& holder);
/// "job 12 (restart 1) on n1, process 123".
std::string holder_text(const LockHolder& holder);
/// The holder ran on this machine and certainly is no more; certainly is, and is not stopped.
bool is_dead_here(const LockHolder& holder);
bool is_awake_here(const LockHolder& holder);

}  // namespace longlora
