// `longlora status RUN`: what a run did, where it stands, and whether it is alive, in one screen. It changes nothing
// and needs no MPI. What is inside of a checkpoint says inspect; curves draws jobs/plot_run.sh.
#pragma once

#include <string>

#include "jobs/command_line/option_table.h"

namespace longlora {

struct StatusOptions {
    std::string run_folder;

    template <class V> void visit(V&& v) { v.positional("RUN", run_folder, "the --run folder of a training"); }
};

/// The screen. Waits for up to `watch_seconds` for a sign of life where the files do not tell.
std::string status_text(const StatusOptions& options, double watch_seconds = 5);

}  // namespace longlora
