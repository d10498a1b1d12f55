// The subcommands: each is a function from its arguments to an exit code, called by every rank.
#pragma once

#include <string>
#include <vector>

#include "parallel/host_group.h"

namespace longlora {

using Arguments = std::vector<std::string>;  ///< those after the subcommand

int prepare_command(const Arguments& arguments, const parallel::HostGroup& group);
int train_command(const Arguments& arguments, const parallel::HostGroup& group);
int evaluate_command(const Arguments& arguments, const parallel::HostGroup& group);
int export_command(const Arguments& arguments, const parallel::HostGroup& group);
int plan_command(const Arguments& arguments, const parallel::HostGroup& group);
int status_command(const Arguments& arguments, const parallel::HostGroup& group);
int inspect_command(const Arguments& arguments, const parallel::HostGroup& group);

}  // namespace longlora
