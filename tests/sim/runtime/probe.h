// Probe: functions with which tests read and change the simulated runtime of their process. The real runtime has
// nothing like it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "sim/runtime/process.h"
#include "sim/runtime/totals.h"

namespace sim::probe {

using runtime::Misuse;  ///< an error that the runtime's own checks found
using runtime::Totals;

/// Everything counted so far: allocations, copies, the counts of kernels by name ...
const Totals& totals();
/// The number of operations that are queued on all streams and have not run.
std::size_t queued_operations();

/// While it lives, an error that otherwise ends the process is thrown (Misuse, ptx::Fault) by the call that finds it.
class ErrorsAreThrown {
public:
    ErrorsAreThrown();
    ~ErrorsAreThrown();
    ErrorsAreThrown(const ErrorsAreThrown&) = delete;
    ErrorsAreThrown& operator=(const ErrorsAreThrown&) = delete;
};

/// While it lives, the settings, which otherwise come from the environment, are as `change` leaves them.
class ChangedSettings {
public:
    explicit ChangedSettings(const std::function<void(runtime::Settings&)>& change);
    ~ChangedSettings();
    ChangedSettings(const ChangedSettings&) = delete;
    ChangedSettings& operator=(const ChangedSettings&) = delete;

private:
    runtime::Settings before_;
};

/// The counts of every kernel, one JSON object a line; SIM_COUNTS=FILE appends them to FILE when the process ends.
std::string counts_as_json_lines();

}  // namespace sim::probe
