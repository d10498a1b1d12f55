// The subcommands: each is a function from its arguments to an exit code, called by every rank.
#pragma once

#include <string>
#include <vector>

#include "dist/host_group.h"

namespace longlora {

using Arguments = std::vector<std::string>;   ///< those after the subcommand

int prepare_command(const Arguments& arguments, const dist::HostGroup& group);
int train_command(const Arguments& arguments, const dist::HostGroup& group);
int evaluate_command(const Arguments& arguments, const dist::HostGroup& group);
int export_command(const Arguments& arguments, const dist::HostGroup& group);
int plan_command(const Arguments& arguments, const dist::HostGroup& group);
int status_command(const Arguments& arguments, const dist::HostGroup& group);
int inspect_command(const Arguments& arguments, const dist::HostGroup& group);

}  // namespace longlora
