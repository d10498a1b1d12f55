// The one table of options that have no effect while other options have certain values. An option of this table that
// the user gives for nothing is refused with the reason, by every command; a default never is. What depends on the
// model's files is checked where they are read (extend_rope in src/model/config.h, jobs/experiment/setup.cpp). The
// values of single options are checked in jobs/experiment/options.cpp and its like.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/json.h"

namespace longlora {

/// `option` has no effect in `commands` while `holds`.
struct WithoutEffect {
    const char* commands;  ///< names with spaces between them
    const char* option;    ///< without dashes
    const char* when;      ///< the condition, as it follows "has no effect": "with --method lora"
    /// values: the value of every option of the command, by name.
    bool (*holds)(const Json& values);
    const char* reason;  ///< and, where leaving the option out is not the only one, the way out
};

std::span<const WithoutEffect> options_without_effect();

/// Throws an Error for the first option in `given`, the names of the options that the user gave, that has no effect in
/// `command`.
void refuse_without_effect(const std::string& command, const std::vector<std::string>& given, const Json& values);

}  // namespace longlora
