// What GPUs cannot compute. Every build knows it, so that a command refuses a model before it makes a device or a
// plan. kernels/cuda has the computations.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"

namespace longlora {

/// Says why attention on a GPU does not support this head_dim; "" if it does. The caller adds what the user can do.
inline std::string cuda_head_dim_problem(std::int64_t head_dim) {
    constexpr std::int64_t kStep = 8, kMost = 128;
    if (head_dim > 0 && head_dim % kStep == 0 && head_dim <= kMost) return "";
    return text("a head_dim of ", head_dim, " is not supported on GPUs, whose attention takes multiples of ", kStep,
                " up to ", kMost);
}

}  // namespace longlora
