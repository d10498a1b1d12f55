// A beat comes often enough that a standstill of half the time to see it means something.
#include "jobs/process/watched_group.h"

#include <algorithm>

#include "jobs/command_line/units.h"
#include "jobs/process/signals.h"

namespace longlora {

WatchedGroup::WatchedGroup(const parallel::HostGroup& ranks, const std::string& timeout, const std::string& way_out)
    : watchdog({parse_seconds(timeout, "--timeout"), ranks.rank(), ranks.size(), stop_signal_came, way_out}),
      heartbeat(ranks, std::min(5.0, parse_seconds(timeout, "--timeout") / 8), [this] { watchdog.hears(); }),
      group(ranks.handle(), [this] { listens(); }) {}

void WatchedGroup::works() {
    watchdog.works();
    heartbeat.beat();
}

void WatchedGroup::listens() {
    watchdog.waits();
    heartbeat.listen();
}

}  // namespace longlora
