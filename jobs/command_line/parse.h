// parse_on_all_ranks: every command uses it to turn its arguments into options, so that all ranks succeed or leave
// together. Parsing on one rank is in jobs/command_line/option_table.h.
#pragma once

#include <cstdio>
#include <optional>

#include "jobs/command_line/commands.h"
#include "jobs/command_line/option_table.h"
#include "parallel/agree.h"

namespace longlora {

/// Collective. Returns the options that `arguments` give, after check(options) has accepted them. If the user asked
/// for help, rank 0 prints it and every rank gets std::nullopt. An error on any rank is an AgreedError on all.
template <class Options, class Check>
std::optional<Options> parse_on_all_ranks(const parallel::HostGroup& group, const char* command,
                                          const char* description, const Arguments& arguments, Check check) {
    Options options;
    Parsed parsed;
    parallel::agree(group, [&] {
        parsed = parse_options(command, description, arguments, options);
        if (parsed.run) check(options);
    });
    if (parsed.run) return options;
    if (group.rank() == 0) std::printf("%s", parsed.help.c_str());
    return std::nullopt;
}

template <class Options>
std::optional<Options> parse_on_all_ranks(const parallel::HostGroup& group, const char* command,
                                          const char* description, const Arguments& arguments) {
    return parse_on_all_ranks<Options>(group, command, description, arguments, [](const Options&) {});
}

}  // namespace longlora
