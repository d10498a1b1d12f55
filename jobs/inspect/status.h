// `longlora status RUN`: prints how far a run came, whether it is alive and how its last start ended, on one screen. It
// changes no file and needs no MPI. jobs/inspect/inspect.h shows the content of a checkpoint; jobs/plot_run.sh draws
// the metrics.
#pragma once

#include <string>

#include "jobs/command_line/option_table.h"

namespace longlora {

struct StatusOptions {
    std::string run_folder;

    template <class V> void visit(V&& v) {
        v.positional("RUN", run_folder, "run folder of a training (the value of its --run)");
    }
};

/// The text to print. If the files do not say whether the run is alive, waits up to `watch_seconds` for a heartbeat.
std::string status_text(const StatusOptions& options, double watch_seconds = 5);

}  // namespace longlora
