// Host memory of a computer whose ranks share it: what is free, and whether ranks with GPUs get what they pin - all of it is taken when a device is made.
// What fits on a device is train_device.h's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longlora {

/// What can be had on this computer without swapping: of the memory that is free, what the container and the job's cgroup (Slurm's --mem) allow.
std::int64_t free_memory_bytes();

/// The least memory limit of the cgroups that `membership` (/proc/self/cgroup) names and of those above them, in the tree at `root` (/sys/fs/cgroup); versions 1 and 2.
/// The largest number when there is none.
std::int64_t cgroup_limit_bytes(const std::string& membership, const std::string& root);

/// What a rank is about to pin, and what it sees free on its computer.
struct PinnedShare {
    std::string host;
    std::int64_t pinned = 0, free = 0;
};

/// by_rank: of all ranks. Ranks of a computer together may pin nine tenths of its free memory; the rest is for libraries and file pages. "" when that is enough
/// everywhere, else one sentence about the first computer where it is not. offload: activations are what is pinned.
std::string pinned_memory_problem(const std::vector<PinnedShare>& by_rank, bool offload);

}  // namespace longlora
