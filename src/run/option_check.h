// Decides whether a run with the present options may resume from a checkpoint that was made with others. It compares
// JSON values by class and does not know the options themselves: jobs/experiment/options.h lists each with its class.
// Classes: `identity` decides what is trained and never changes, `schedule` changes only with --allow-change, `free`
// changes freely.
#pragma once

#include <string>
#include <vector>

#include "io/json.h"

namespace longlora {

/// The values of the options by class, each class an object {name: value}.
struct OptionClasses {
    Json identity = Json::object(), schedule = Json::object(), free = Json::object();
};

Json to_json(const OptionClasses& options);
/// `where` names the checkpoint in messages.
OptionClasses option_classes_of(const Json& json, const std::string& where);

struct OptionChange {
    std::string name;
    Json before, now;  ///< null: the option does not exist
};

/// "context 8192 (now 16384), seed 0 (now 1)"
std::string changes_text(const std::vector<OptionChange>& changes);

/// The differences that are permitted.
struct PermittedChanges {
    std::vector<OptionChange> schedule, free;
};

/// Refuses names given to --allow-change that are not options of the schedule.
void check_allowed(const std::vector<std::string>& allowed, const OptionClasses& present);

/// Refuses in one sentence, which names every difference: any change of identity, and any change of the schedule
/// whose name is not in `allowed` (--allow-change). More "steps" are always permitted if "schedule" is and was
/// "constant". Every name in `allowed` must be an option of the schedule.
PermittedChanges check_options(const OptionClasses& saved, const OptionClasses& present,
                               const std::vector<std::string>& allowed, const std::string& checkpoint);

}  // namespace longlora
