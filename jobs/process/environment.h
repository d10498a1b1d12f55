// What a run was made with: program and library versions, processor, hosts, threads, command line. For manifests and
// checkpoints.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"
#include "kernels/device.h"
#include "parallel/host_group.h"

namespace longlora {

/// Collective; the same on every rank. "ranks" lists host, threads and device of each.
Json environment_of(const parallel::HostGroup& group, Device& device, int threads,
                    const std::vector<std::string>& command_line);

}  // namespace longlora
