// Pinned host memory: whether the ranks of a computer together may pin what their devices need. A CUDA device pins
// all of it when it is made. The free memory of a computer is found in kernels/host_memory.h; what fits on a device
// is decided in jobs/train/fitted_step.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longlora {

/// What a rank is about to pin, and how much memory it sees free on its computer.
struct PinnedShare {
    std::string host;
    std::int64_t pinned = 0, free = 0;
};

/// by_rank: the shares of all ranks. The ranks of a computer together may pin nine tenths of its free memory; the
/// rest is for libraries and file pages. Returns "" if that is enough on every computer, else one sentence about the
/// first computer where it is not. offload: whether --offload activations is on, which the sentence then advises to
/// leave out.
std::string pinned_memory_problem(const std::vector<PinnedShare>& by_rank, bool offload);

}  // namespace longlora
