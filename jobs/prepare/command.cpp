// `longlora prepare`: parses the arguments; jobs/prepare/prepare.h does the work on all ranks.
#include "jobs/command_line/parse.h"
#include "jobs/command_line/same_options.h"
#include "jobs/prepare/prepare.h"

namespace longlora {

int prepare_command(const Arguments& arguments, const parallel::HostGroup& group) {
    const char* description = "Makes a token file from texts or from token ids.";
    const auto options = parse_on_all_ranks<PrepareOptions>(group, "prepare", description, arguments);
    if (!options) return 0;
    require_same_options(group, classes_of(*options), {"tokenizer"}, {});
    return run_prepare(*options, group);
}

}  // namespace longlora
