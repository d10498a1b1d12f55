// `longlora prepare`, `export`, `status` and `inspect`: from arguments to the functions that do the work. All but prepare run on rank 0 alone.
#include <cstdio>

#include "dist/agree.h"
#include "jobs/commands.h"
#include "jobs/export.h"
#include "jobs/inspect.h"
#include "jobs/option_table.h"
#include "jobs/prepare.h"
#include "jobs/status.h"

namespace longlora {
namespace {

template <class Options>
bool parse(const char* command, const char* description, const Arguments& arguments, const dist::HostGroup& group, Options& options) {
    Parsed parsed;
    dist::agree(group, [&] { parsed = parse_options(command, description, arguments, options); });
    if (!parsed.run && group.rank() == 0) std::printf("%s", parsed.help.c_str());
    return parsed.run;
}

}  // namespace

int prepare_command(const Arguments& arguments, const dist::HostGroup& group) {
    PrepareOptions options;
    if (!parse("prepare", "Makes a token file of texts or ready token ids.", arguments, group, options)) return 0;
    return run_prepare(options, group);
}

int export_command(const Arguments& arguments, const dist::HostGroup& group) {
    ExportOptions options;
    if (!parse("export", "Makes a Hugging Face model or an adapter of a checkpoint.", arguments, group, options)) return 0;
    dist::agree(group, [&] { if (group.rank() == 0) run_export(options); });
    return 0;
}

int status_command(const Arguments& arguments, const dist::HostGroup& group) {
    StatusOptions options;
    if (!parse("status", "Shows what a run did, where it stands and whether it is alive.", arguments, group, options)) return 0;
    dist::agree(group, [&] { if (group.rank() == 0) std::fputs(status_text(options).c_str(), stdout); });
    return 0;
}

int inspect_command(const Arguments& arguments, const dist::HostGroup& group) {
    InspectOptions options;
    if (!parse("inspect", "Shows what is inside a token file, checkpoint, run, model or adapter.", arguments, group, options)) return 0;
    dist::agree(group, [&] { if (group.rank() == 0) run_inspect(options); });
    return 0;
}

}  // namespace longlora
