// `longlora inspect` and `longlora status`: from arguments to inspect.h and status.h, which do the work on rank 0
// alone.
#include "jobs/command_line/parse.h"
#include "jobs/inspect/inspect.h"
#include "jobs/inspect/status.h"

namespace longlora {

int inspect_command(const Arguments& arguments, const parallel::HostGroup& group) {
    const char* description = "Shows what is inside a token file, checkpoint, run, model or adapter.";
    const auto options = parse_on_all_ranks<InspectOptions>(group, "inspect", description, arguments);
    if (options)
        parallel::agree(group, [&] {
            if (group.rank() == 0) run_inspect(*options);
        });
    return 0;
}

int status_command(const Arguments& arguments, const parallel::HostGroup& group) {
    const char* description = "Shows what a run did, where it stands and whether it is alive.";
    const auto options = parse_on_all_ranks<StatusOptions>(group, "status", description, arguments);
    if (options)
        parallel::agree(group, [&] {
            if (group.rank() == 0) std::fputs(status_text(*options).c_str(), stdout);
        });
    return 0;
}

}  // namespace longlora
