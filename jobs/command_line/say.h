// Sentences of a command for its user.
#pragma once

#include <string>

#include "parallel/host_group.h"

namespace longlora {

/// Rank 0 prints the sentence on standard output at once; an empty one prints nothing.
void say(const parallel::HostGroup& group, const std::string& sentence);

}  // namespace longlora
