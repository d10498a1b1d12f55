// Parsing on all ranks: the way from a command's arguments to its options that every command takes. The option table
// itself is option_table.h.
#pragma once

#include <cstdio>
#include <optional>

#include "jobs/command_line/commands.h"
#include "jobs/command_line/option_table.h"
#include "parallel/agree.h"

namespace longlora {

/// The options that `arguments` give, refused by `check(options)` if they cannot be; none when help was asked for,
/// which rank 0 then prints. Collective: an error on one rank is an AgreedError on all.
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
