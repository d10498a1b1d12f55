// What a run was made with: versions of program and libraries, devices, hosts, threads, command line. Manifests and
// checkpoints record it.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"
#include "kernels/device.h"
#include "parallel/host_group.h"

namespace longlora {

/// Collective; the result is the same on every rank. "ranks" lists host, threads and device of each rank.
Json environment_of(const parallel::HostGroup& group, Device& device, int threads,
                    const std::vector<std::string>& command_line);

}  // namespace longlora
