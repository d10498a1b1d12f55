// All ranks of a command, under watch: whoever waits hears of those who work, and a standstill ends the process
// (jobs/process/watchdog.h). For commands that work for long.
#pragma once

#include <string>

#include "jobs/process/watchdog.h"
#include "parallel/heartbeat.h"

namespace longlora {

struct WatchedGroup {
    Watchdog watchdog;
    parallel::Heartbeat heartbeat;
    const parallel::HostGroup group;  ///< `ranks` again, with its waiting watched

    /// Collective over `ranks`. timeout: the value of --timeout. way_out: what the user can do after a standstill.
    WatchedGroup(const parallel::HostGroup& ranks, const std::string& timeout, const std::string& way_out);
    /// This rank did a part of its own work; long work says so again and again.
    void note_work();
    /// This rank waits for others; called now and then meanwhile.
    void note_waiting();
};

}  // namespace longlora
