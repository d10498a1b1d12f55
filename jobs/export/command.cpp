// `longlora export`: parses the arguments; jobs/export/export.h does the work, on rank 0 alone.
#include "jobs/command_line/parse.h"
#include "jobs/export/export.h"

namespace longlora {

int export_command(const Arguments& arguments, const parallel::HostGroup& group) {
    const char* description = "Makes a Hugging Face model or an adapter from a checkpoint.";
    const auto options = parse_on_all_ranks<ExportOptions>(group, "export", description, arguments);
    if (options)
        parallel::agree(group, [&] {
            if (group.rank() == 0) run_export(*options);
        });
    return 0;
}

}  // namespace longlora
