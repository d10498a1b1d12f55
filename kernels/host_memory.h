// How much memory of this computer a process may have, and how much of that is free. Nothing is allocated here;
// address_range.h does that.
#pragma once

#include <cstdint>
#include <string>

namespace longlora {

/// The physical memory, or the limit of the container or of the cgroup of the job (Slurm's --mem) if that is less.
std::int64_t host_memory_bytes();

/// The part of it that a process can get without swapping.
std::int64_t free_memory_bytes();

/// The smallest memory limit of the cgroups in `membership` (the text of /proc/self/cgroup) and of all cgroups above
/// them, in the tree at `root` (/sys/fs/cgroup), for cgroups of version 1 and 2. Without any limit, the largest
/// number.
std::int64_t cgroup_limit_bytes(const std::string& membership, const std::string& root);

}  // namespace longlora
