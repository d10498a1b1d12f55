// Process end: when the process ends by exit() or by returning from main, operations that are still queued run and the
// counts are written (SIM_COUNTS, SIM_CALLS).
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "sim/runtime/modules.h"
#include "sim/runtime/mutation.h"
#include "sim/runtime/probe.h"
#include "sim/runtime/process.h"
#include "sim/runtime/queue.h"

namespace sim::runtime {
namespace {

/// Does not wait: operations that wait for other ranks are left, since those ranks may be gone.
void run_what_is_queued() {
    std::uint64_t operations = std::numeric_limits<std::uint64_t>::max();
    for (const Point& end : ends_of_device(-1)) attempt(end, operations);
}

void end_process() {
    try {
        run_what_is_queued();
        if (!settings().counts_file.empty())
            append_to_file("SIM_COUNTS", settings().counts_file, probe::counts_as_json_lines());
        report_mutation();
        if (!replacement_was_used())
            std::fprintf(stderr, "simulated device: no kernel of the file of SIM_PTX, %s, was launched\n",
                         settings().ptx_file.c_str());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "simulated device: %s\n", error.what());
        std::_Exit(70);
    }
}

const bool registered = std::atexit(end_process) == 0;

}  // namespace
}  // namespace sim::runtime
