// Probe: what tests may ask of and set in the simulated runtime of their process. The real runtime has nothing of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "sim/runtime/process.h"
#include "sim/runtime/totals.h"

namespace sim::probe {

using runtime::Misuse;  ///< error of the runtime's own checks
using runtime::Totals;

/// Everything counted so far: allocations, copies, kernels' counts by name ...
const Totals& totals();
/// Operations queued on all streams that have not run.
std::size_t queued_operations();

/// As long as it lives, errors that end the process otherwise are thrown (Misuse, ptx::Fault) by the call in which they
/// are found.
class ErrorsAreThrown {
public:
    ErrorsAreThrown();
    ~ErrorsAreThrown();
    ErrorsAreThrown(const ErrorsAreThrown&) = delete;
    ErrorsAreThrown& operator=(const ErrorsAreThrown&) = delete;
};

/// As long as it lives, settings that otherwise come from the environment are as `change` leaves them.
class ChangedSettings {
public:
    explicit ChangedSettings(const std::function<void(runtime::Settings&)>& change);
    ~ChangedSettings();
    ChangedSettings(const ChangedSettings&) = delete;
    ChangedSettings& operator=(const ChangedSettings&) = delete;

private:
    runtime::Settings before_;
};

/// The counts of every kernel as one line of JSON each, as SIM_COUNTS=FILE appends them to FILE when the process ends.
std::string counts_as_json_lines();

}  // namespace sim::probe
