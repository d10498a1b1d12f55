// `longlora inspect` and `longlora status`: parses the arguments. jobs/inspect/inspect.h and jobs/inspect/status.h do
// the work, on rank 0 alone.
#include "jobs/command_line/parse.h"
#include "jobs/inspect/inspect.h"
#include "jobs/inspect/status.h"

namespace longlora {

int inspect_command(const Arguments& arguments, const parallel::HostGroup& group) {
    const char* description = "Shows the content of a token file, checkpoint, run, model or adapter.";
    const auto options = parse_on_all_ranks<InspectOptions>(group, "inspect", description, arguments);
    if (options)
        parallel::agree(group, [&] {
            if (group.rank() == 0) run_inspect(*options);
        });
    return 0;
}

int status_command(const Arguments& arguments, const parallel::HostGroup& group) {
    const char* description = "Shows how far a run came, whether it is alive and how its last start ended.";
    const auto options = parse_on_all_ranks<StatusOptions>(group, "status", description, arguments);
    if (options)
        parallel::agree(group, [&] {
            if (group.rank() == 0) std::fputs(status_text(*options).c_str(), stdout);
        });
    return 0;
}

}  // namespace longlora
