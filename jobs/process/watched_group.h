// WatchedGroup: the ranks of a long-running command, with a watchdog and heartbeats. A rank that waits receives the
// heartbeats of the ranks that work. If no rank makes progress, the watchdog ends the process
// (jobs/process/watchdog.h).
#pragma once

#include <string>

#include "jobs/process/watchdog.h"
#include "parallel/heartbeat.h"

namespace longlora {

struct WatchedGroup {
    Watchdog watchdog;
    parallel::Heartbeat heartbeat;
    const parallel::HostGroup group;  ///< the same ranks; its calls report that this rank waits

    /// Collective over `ranks`. timeout: the value of --timeout. way_out: as for Watchdog::set_way_out().
    WatchedGroup(const parallel::HostGroup& ranks, const std::string& timeout, const std::string& way_out);
    /// What the ranks do from now on (Watchdog::enter). It begins with progress.
    void enter(const std::string& phase);
    /// This rank did a part of its own work. Long work calls it again and again.
    void note_work();
    /// This rank waits for others. Called now and then during the wait.
    void note_waiting();
};

}  // namespace longlora
