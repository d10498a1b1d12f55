// LockFile: only one job at a time writes a run folder or another output. The lock file (RUN/lock, OUT.lock) is created
// exclusively; it names its holder and has a counter that the holder advances while it lives. Only rank 0 takes a lock;
// no MPI. What a scheduler knows about its jobs comes from the caller (jobs/process/slurm_job.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "io/json.h"

namespace longlora {

/// A lock file and what it protects.
struct LockPlace {
    std::string file;
    std::string thing;    ///< in sentences: "the run folder runs/a"
    std::string way_out;  ///< what a refused job can do instead: "give another --run"
};
/// RUN/lock.
LockPlace lock_of_run(const std::string& run);
/// OUT.lock, beside the output.
LockPlace lock_of_output(const std::string& output);

/// A job of a scheduler; all fields are empty without a scheduler. A job that was requeued keeps its id and gets
/// another restart number.
struct JobIdentity {
    std::string cluster, id, restart;
};

/// The holder of a lock, as the lock file names it.
struct LockHolder {
    std::string token;  ///< identifies one start of the program; never used twice
    JobIdentity job;
    std::string host;
    std::string machine;                          ///< boot id and process namespace in which `process` is valid
    std::int64_t process = 0, process_start = 0;  ///< number and start time; numbers are reused, pairs are not
    std::int64_t counter = 0;
};

struct LockOptions {
    JobIdentity job;
    double timeout_seconds = 60;   ///< a lock is stale if its counter does not advance for so long by this clock
    double heartbeat_seconds = 1;  ///< time between two advances of this lock's counter
    /// Returns whether the scheduler says that the holder's job is over. Called once, only for holders with a job.
    std::function<bool(const LockHolder&)> has_ended;
    /// Called repeatedly during the wait for the holder's heartbeat. An Error that it throws ends the wait.
    std::function<void()> waiting;
    std::function<void(const std::string&)> say;  ///< prints a sentence for the user
};

class LockFile {
public:
    /// Takes the lock; the folder of its file exists. If the holder lives, an Error names it. The lock is taken over
    /// at once if the holder's process on this machine has ended or its job is over. Otherwise it is taken over when
    /// its counter has not advanced for the timeout, unless the holder is awake on this machine; then it is taken over
    /// only if that process certainly has another file open, of which this one is a copy. The wait is never longer than
    /// the timeout. A file that no longlora has written is never taken over.
    LockFile(const LockPlace& place, const LockOptions& options);
    /// Releases the lock.
    ~LockFile();
    LockFile(const LockFile&) = delete;
    LockFile& operator=(const LockFile&) = delete;

    const std::string& token() const;
    /// Reads the lock file again. Throws an Error if the lock is gone or another job's: this process was suspended for
    /// so long that another job took over, and that job may have ended since. Call it before every rename of what the
    /// lock protects.
    void require_held() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

/// Whether the lock exists and names `token`.
bool is_lock_of(const LockPlace& place, const std::string& token);
/// Throws an Error unless the lock exists and names `token`. For ranks that do not hold the LockFile themselves.
void require_lock_of(const LockPlace& place, const std::string& token);
/// Reads the holder of the lock; false if there is no lock or if it cannot be read.
bool read_lock(const LockPlace& place, LockHolder& holder);
/// "job 12 (restart 1), process 123 on n1".
std::string holder_text(const LockHolder& holder);
/// is_dead_here: the holder ran on this machine, and its process has certainly ended. is_awake_here: its process
/// certainly runs on this machine and is not stopped. If nothing is certain, both are false.
bool is_dead_here(const LockHolder& holder);
bool is_awake_here(const LockHolder& holder);

}  // namespace longlora
