// How many OpenMP threads a rank gets: allowed cores / ranks of the node, unless OMP_NUM_THREADS says it.
#pragma once

#include "parallel/host_group.h"

namespace longlora {

/// Collective. Ranks of one node that share the same set of allowed cores divide it; a rank that the launcher bound to
/// its own cores uses them all.
int threads_per_rank(const parallel::HostGroup& group);

}  // namespace longlora
