// What GPUs cannot compute, known to every build: who chooses a device or plans for one asks before anything is made.
// How it is computed is kernels/cuda's.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"

namespace longlora {

/// Why attention on a GPU takes no heads of so many elements; "" when it does. The way out is for those who ask to say.
inline std::string cuda_head_dim_problem(std::int64_t head_dim) {
    constexpr std::int64_t kStep = 8, kMost = 128;
    if (head_dim > 0 && head_dim % kStep == 0 && head_dim <= kMost) return "";
    return text("a head_dim of ", head_dim, " is not supported on GPUs, whose attention takes multiples of ", kStep,
                " up to ", kMost);
}

}  // namespace longlora
