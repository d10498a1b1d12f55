// Host memory: how much of this computer's a process may have, and how much of that is free. Nothing is allocated here;
// address_range.h does that.
#pragma once

#include <cstdint>
#include <string>

namespace longlora {

/// Physical memory, or what the container and the job's cgroup (Slurm's --mem) allow if that is less.
std::int64_t host_memory_bytes();

/// What can be had of it without swapping.
std::int64_t free_memory_bytes();

/// The least memory limit of the cgroups that `membership` (/proc/self/cgroup) names and of those above them, in the
/// tree at `root` (/sys/fs/cgroup); versions 1 and 2. The largest number when there is none.
std::int64_t cgroup_limit_bytes(const std::string& membership, const std::string& root);

}  // namespace longlora
