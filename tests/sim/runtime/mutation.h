// Mutation: wrong host programs without compiling. Calls of the API that a launch file could have got wrong are places:
// a launch by its kernel, all others by the chain of return addresses that leads to them. SIM_CALLS=FILE writes every
// place that ran with the rules that fit it, SIM_MUTATE="RULE PLACE..." breaks some by one rule. Which places are the
// product's, what their addresses mean and whether a test notices is not known here (tests/sim/mutations/host.sh); PTX
// instructions are changed by tests/sim/mutations/mutate.cpp.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>

#include "sim/runtime/process.h"

namespace sim::runtime {

/// Whether to break the running call of `function`: "drop" (it does nothing and succeeds), "less" (of a copy: four
/// bytes or a row less), "m-less" and so on (of a product). Its place is the function and who called it.
bool place_is_mutated(const char* rule, const char* function);
inline bool mutated(const char* rule, const char* function) {
    return settings().watches_calls() && place_is_mutated(rule, function);
}

/// "grid-x-less", "grid-x-more" and so on for y and z: a block less where there are several, one more; y and z only of
/// kernels that use them. "shared-less": 16 bytes less of dynamic shared memory. kernel: its mangled name.
void mutate_launch(const std::string& kernel, dim3& grid, std::size_t& shared_bytes);

/// SIM_CALLS: appends "RULE PLACE TIMES" lines. SIM_MUTATE: says on stderr how many calls were changed. When the
/// process ends.
void report_mutation();

}  // namespace sim::runtime
