// Pinned memory of a computer whose ranks share it: do ranks with GPUs get what they pin? All of it is taken when a
// device is made. What a computer has is kernels/host_memory.h's; what fits on a device is train_device.h's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longlora {

/// What a rank is about to pin, and what it sees free on its computer.
struct PinnedShare {
    std::string host;
    std::int64_t pinned = 0, free = 0;
};

/// by_rank: of all ranks. Ranks of a computer together may pin nine tenths of its free memory; the rest is for
/// libraries and file pages. "" when that is enough everywhere, else one sentence about the first computer where it is
/// not. offload: activations are what is pinned.
std::string pinned_memory_problem(const std::vector<PinnedShare>& by_rank, bool offload);

}  // namespace longlora
