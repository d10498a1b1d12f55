// Ranks that were started with different options or files would compute nonsense together without anybody noticing.
// This refuses them; it checks no values.
#pragma once

#include <string>
#include <vector>

#include "parallel/host_group.h"
#include "run/option_check.h"

namespace longlora {

/// Collective. Every option must be the same on all ranks, except those named in `may_differ` (places of files, memory
/// of a machine).
void require_same_options(const parallel::HostGroup& group, const OptionClasses& options,
                          const std::vector<std::string>& may_differ);

/// Collective. `hash` of `what` ("the token files") must be the same on all ranks.
void require_same_content(const parallel::HostGroup& group, const std::string& what, const std::string& hash);

}  // namespace longlora
