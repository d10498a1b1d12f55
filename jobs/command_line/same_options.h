// Refuses ranks that were started with different options or files: together they would compute nonsense without an
// error. The values themselves are checked elsewhere, when the options are parsed.
#pragma once

#include <string>
#include <vector>

#include "parallel/host_group.h"
#include "run/option_check.h"

namespace longlora {

/// Collective. Throws an AgreedError unless every option has the same value on all ranks. The options named in `places`
/// name files: they may have other values, but either all ranks have one or none has. Those in `may_differ` may have
/// any value.
void require_same_options(const parallel::HostGroup& group, const OptionClasses& options,
                          const std::vector<std::string>& places, const std::vector<std::string>& may_differ);

/// Collective. Throws an AgreedError unless `hash` is the same on all ranks. `what` names its content in the sentence
/// ("config.json in DIR"). The sentence names the node, too.
void require_same_content(const parallel::HostGroup& group, const std::string& what, const std::string& hash);

}  // namespace longlora
