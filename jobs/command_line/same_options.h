// Refuses ranks that were started with different options or files: together they would compute nonsense without an
// error. The values themselves are checked elsewhere, when the options are parsed.
#pragma once

#include <string>
#include <vector>

#include "parallel/host_group.h"
#include "run/option_check.h"

namespace longlora {

/// Collective. Throws an AgreedError unless every option has the same value on all ranks, except the options named in
/// `may_differ` (places of files, memory of a machine).
void require_same_options(const parallel::HostGroup& group, const OptionClasses& options,
                          const std::vector<std::string>& may_differ);

/// Collective. Throws an AgreedError unless `hash` is the same on all ranks. `what` names its content in the sentence
/// ("the token files").
void require_same_content(const parallel::HostGroup& group, const std::string& what, const std::string& hash);

}  // namespace longlora
