// The subcommands. Each is a function that every rank calls with the arguments; it returns an exit code.
// jobs/main.cpp calls them; each is defined in the folder of its command, for example jobs/train/command.cpp.
#pragma once

#include <string>
#include <vector>

#include "parallel/host_group.h"

namespace longlora {

using Arguments = std::vector<std::string>;  ///< the arguments after the name of the subcommand

int prepare_command(const Arguments& arguments, const parallel::HostGroup& group);
int train_command(const Arguments& arguments, const parallel::HostGroup& group);
int evaluate_command(const Arguments& arguments, const parallel::HostGroup& group);
int export_command(const Arguments& arguments, const parallel::HostGroup& group);
int plan_command(const Arguments& arguments, const parallel::HostGroup& group);
int status_command(const Arguments& arguments, const parallel::HostGroup& group);
int inspect_command(const Arguments& arguments, const parallel::HostGroup& group);

}  // namespace longlora
