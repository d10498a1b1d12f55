// Mutation: makes wrong host programs without compiling. A call of the API that a launch file could have got wrong has
// a place: the place of a launch is its kernel, the place of any other call is the chain of return addresses that leads
// to it. SIM_CALLS=FILE writes every place that ran with the rules that fit it. SIM_MUTATE="RULE PLACE..." breaks the
// calls at some places by one rule. This file does not know which places belong to the product, what their addresses
// mean or whether a test notices; tests/sim/mutations/host.sh does. tests/sim/mutations/mutate.cpp changes PTX
// instructions.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>

#include "sim/runtime/process.h"

namespace sim::runtime {

/// Whether to break the running call of `function`: "drop" (it does nothing and succeeds), "less" (a copy of four bytes
/// or a row less), "m-less" and so on (a product of smaller size). The place is the function and its callers.
bool place_is_mutated(const char* rule, const char* function);
inline bool mutated(const char* rule, const char* function) {
    return settings().watches_calls() && place_is_mutated(rule, function);
}

/// Applies "grid-x-less" and "grid-x-more" (and so on for y and z): one block less where there are several, or one
/// more; y and z only for kernels that use them. "shared-less": 16 bytes less of dynamic shared memory. `kernel` is the
/// mangled name.
void mutate_launch(const std::string& kernel, dim3& grid, std::size_t& shared_bytes);

/// Called when the process ends. SIM_CALLS: appends "RULE PLACE TIMES" lines. SIM_MUTATE: says on stderr how many calls
/// were changed.
void report_mutation();

}  // namespace sim::runtime
