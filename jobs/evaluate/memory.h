// How much memory a device needs for the windows of an evaluation, found before the device is made.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "jobs/evaluate/inputs.h"
#include "jobs/process/machine.h"

namespace longlora {

struct WindowMemory {
    std::int64_t arena_bytes = 0, pinned_bytes = 0;
};

/// Computes windows of every measurement on a device that only counts memory. Throws an Error if they do not fit. Calls
/// progress() again and again. Not collective.
WindowMemory plan_windows(const EvaluationInputs& inputs, const std::vector<Measurement>& measurements,
                          WeightsOptions weights_options, const Resources& resources, int rank,
                          const std::function<void()>& progress);

}  // namespace longlora
