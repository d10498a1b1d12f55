// How many OpenMP threads a rank gets: allowed cores / ranks that share them, unless OMP_NUM_THREADS is set.
#pragma once

#include "parallel/host_group.h"

namespace longlora {

/// Collective. Ranks of one node that have the same set of allowed cores divide it; a rank that the launcher bound to
/// cores of its own uses all of them.
int threads_per_rank(const parallel::HostGroup& group);

}  // namespace longlora
