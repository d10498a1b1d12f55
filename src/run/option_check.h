// option_check: may a run with the present options go on from a checkpoint made with others? It compares JSON values by
// class (design section 7) and does not know the option table.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"

namespace longlora {

/// Option values by class; each an object {name: value}.
struct OptionClasses {
    Json identity = Json::object(), schedule = Json::object(), free = Json::object();
};

Json to_json(const OptionClasses& options);
/// `where` names the checkpoint in messages.
OptionClasses option_classes_of(const Json& json, const std::string& where);

struct OptionChange {
    std::string name;
    Json before, now;  ///< null: not there
};

/// "context 8192 (now 16384), seed 0 (now 1)"
std::string changes_text(const std::vector<OptionChange>& changes);

/// What is different and permitted.
struct PermittedChanges {
    std::vector<OptionChange> schedule, free;
};

/// Refuses names (of --allow-change) that are not options of the schedule.
void check_allowed(const std::vector<std::string>& allowed, const OptionClasses& present);

/// Refuses, in one sentence that names every difference: any change of identity; a change of schedule unless its name
/// is in `allowed` (--allow-change), but more "steps" of a "schedule" that is and was "constant" are always fine. Names
/// in `allowed` must be schedule options.
PermittedChanges check_options(const OptionClasses& saved, const OptionClasses& present,
                               const std::vector<std::string>& allowed, const std::string& checkpoint);

}  // namespace longlora
