// The interval between heartbeats is at most an eighth of the timeout: in half of the timeout, after which the
// watchdog suspects a standstill, a rank that works sends several heartbeats.
#include "jobs/process/watched_group.h"

#include <algorithm>

#include "jobs/command_line/units.h"
#include "jobs/process/signals.h"

namespace longlora {

WatchedGroup::WatchedGroup(const parallel::HostGroup& ranks, const std::string& timeout, const std::string& way_out)
    : watchdog({parse_seconds(timeout, "--timeout"), ranks.rank(), ranks.size(), stop_signal_came}),
      heartbeat(ranks, std::min(5.0, parse_seconds(timeout, "--timeout") / 8), [this] { watchdog.note_others_work(); }),
      group(ranks.handle(), [this] { note_waiting(); }) {
    watchdog.set_way_out(way_out);
}

void WatchedGroup::enter(const std::string& phase) {
    watchdog.enter(phase);
    note_work();
}

void WatchedGroup::note_work() {
    watchdog.note_work();
    heartbeat.send();
}

void WatchedGroup::note_waiting() {
    watchdog.note_waiting();
    heartbeat.receive();
}

}  // namespace longlora
