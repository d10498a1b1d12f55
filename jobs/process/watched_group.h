// WatchedGroup: the ranks of a command that works for long, with a watchdog and heartbeats. A rank that waits hears
// from the ranks that work, and a standstill ends the process (jobs/process/watchdog.h).
#pragma once

#include <string>

#include "jobs/process/watchdog.h"
#include "parallel/heartbeat.h"

namespace longlora {

struct WatchedGroup {
    Watchdog watchdog;
    parallel::Heartbeat heartbeat;
    const parallel::HostGroup group;  ///< the same ranks; its calls report that this rank waits

    /// Collective over `ranks`. timeout: the value of --timeout. way_out: what the user can do after a standstill;
    /// ends the sentence.
    WatchedGroup(const parallel::HostGroup& ranks, const std::string& timeout, const std::string& way_out);
    /// This rank did a part of its own work. Long work calls it again and again.
    void note_work();
    /// This rank waits for others. Called now and then during the wait.
    void note_waiting();
};

}  // namespace longlora
