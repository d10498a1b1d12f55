// Compares options by class and puts a refusal into one sentence.
#include "run/option_check.h"

#include <algorithm>
#include <set>

#include "core/error.h"

namespace longlora {

namespace {

std::string value_text(const Json& value) {
    if (value.is_null()) return "not set";
    return value.is_string() ? value.get<std::string>() : to_line(value);
}

Json value_of(const Json& object, const std::string& name) { return object.contains(name) ? object[name] : Json(); }

std::vector<OptionChange> differences(const Json& before, const Json& now) {
    std::set<std::string> names;
    for (const Json* side : {&before, &now})
        for (const auto& item : side->items()) names.insert(item.key());
    std::vector<OptionChange> changes;
    for (const std::string& name : names)
        if (value_of(before, name) != value_of(now, name))
            changes.push_back({name, value_of(before, name), value_of(now, name)});
    return changes;
}

/// Whether the change is more steps of a schedule that does not depend on the number of steps.
bool is_harmless(const OptionChange& change, const Json& before, const Json& now) {
    return change.name == "steps" && value_of(before, "schedule") == "constant" &&
           value_of(now, "schedule") == "constant" && change.before.is_number() && change.now.is_number() &&
           change.now >= change.before;
}

std::string names_text(const std::vector<OptionChange>& changes) {
    std::string out;
    for (const OptionChange& change : changes) out += " --allow-change " + change.name;
    return out;
}

}  // namespace

Json to_json(const OptionClasses& options) {
    return {{"identity", options.identity}, {"schedule", options.schedule}, {"free", options.free}};
}

OptionClasses option_classes_of(const Json& json, const std::string& where) {
    OptionClasses options{member(json, "identity", where), member(json, "schedule", where),
                          member(json, "free", where)};
    for (const Json* part : {&options.identity, &options.schedule, &options.free})
        require(part->is_object(), where, ": the recorded options do not have the form that longlora writes");
    return options;
}

std::string changes_text(const std::vector<OptionChange>& changes) {
    std::string out;
    for (const OptionChange& change : changes)
        out += (out.empty() ? "" : ", ") + change.name + " " + value_text(change.before) + " (now " +
               value_text(change.now) + ")";
    return out;
}

void check_allowed(const std::vector<std::string>& allowed, const OptionClasses& present) {
    for (const std::string& name : allowed) {
        require(!present.identity.contains(name), "--allow-change ", name, " is not possible: ", name,
                " decides what is trained; start a new --run to change it");
        require(present.schedule.contains(name), "--allow-change ", name,
                ": the schedule has no option of this name; other options need no --allow-change");
    }
}

PermittedChanges check_options(const OptionClasses& saved, const OptionClasses& present,
                               const std::vector<std::string>& allowed, const std::string& checkpoint) {
    check_allowed(allowed, present);
    const std::vector<OptionChange> identity = differences(saved.identity, present.identity);
    std::vector<OptionChange> refused;
    PermittedChanges permitted;
    for (const OptionChange& change : differences(saved.schedule, present.schedule)) {
        const bool asked_for = std::find(allowed.begin(), allowed.end(), change.name) != allowed.end();
        (asked_for || is_harmless(change, saved.schedule, present.schedule) ? permitted.schedule : refused)
            .push_back(change);
    }
    permitted.free = differences(saved.free, present.free);
    std::string sentence;
    if (!identity.empty())
        sentence = "these options decide what is trained and cannot change: " + changes_text(identity) +
                   " (give the earlier values, or start a new --run)";
    if (!refused.empty())
        sentence += (sentence.empty() ? "" : "; ") + ("the schedule differs: " + changes_text(refused)) +
                    " (give the earlier values, or add" + names_text(refused) + ")";
    require(sentence.empty(), checkpoint, " was saved with other options; ", sentence);
    return permitted;
}

}  // namespace longlora
