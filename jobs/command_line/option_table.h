// The mechanism behind the option tables. An options struct has a function visit(v) that calls v(name, field, class,
// help) for each option. Parsing, --help, --config, the manifest and the comparison of options at a resume all use
// it. The tables themselves are in jobs/experiment/options.h, jobs/evaluate/options.h, jobs/plan/options.h,
// jobs/prepare/prepare.h, jobs/export/export.h and jobs/inspect/inspect.h.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "core/error.h"
#include "jobs/command_line/option_messages.h"
#include "jobs/command_line/without_effect.h"
#include "run/option_check.h"

namespace longlora {

/// What may change when a run resumes: identity: nothing; schedule: what --allow-change names; free: anything
/// (run/option_check.h).
enum class OptionClass { identity, schedule, free };

/// An option without a value: --name or --no-name. A bool field is an option with a value instead: --name true.
struct Flag {
    bool on = false;
};

/// The outcome of parsing: run the command, or print the help text.
struct Parsed {
    bool run = true;
    std::string help;
};

namespace detail {

struct AddOption {
    CLI::App& app;
    template <class Field> void operator()(const char* name, Field& field, OptionClass, const char* help) const {
        const std::string dashed = std::string("--") + name;
        if constexpr (std::is_same_v<Field, Flag>) app.add_flag(dashed + ",!--no-" + name, field.on, help);
        else if constexpr (std::is_same_v<Field, std::vector<std::string>>)
            app.add_option(dashed, field, help)->delimiter(',')->capture_default_str();
        else check<Field>(app.add_option(dashed, field, help)->capture_default_str(), dashed);
    }
    /// By itself the parser would read "" as 0 and replace a number that is too large by the largest one.
    template <class Field> static void check(CLI::Option* option, const std::string& dashed) {
        const auto with = [&](void (*require_kind)(const std::string&, const std::string&)) {
            option->check([=](const std::string& value) {
                require_kind(dashed, value);
                return std::string();
            });
        };
        if constexpr (std::is_same_v<Field, bool>) with(require_boolean);
        else if constexpr (std::is_integral_v<Field>) with(require_whole_number);
        else if constexpr (std::is_floating_point_v<Field>) with(require_number);
    }
    /// An argument without a name; several arguments if the field is a list.
    template <class Field> void positional(const char* name, Field& field, const char* help) const {
        app.add_option(name, field, help)->required();
    }
};

struct ToClasses {
    OptionClasses& out;
    template <class Field>
    void operator()(const char* name, const Field& field, OptionClass option_class, const char*) const {
        Json& group = option_class == OptionClass::identity   ? out.identity
                      : option_class == OptionClass::schedule ? out.schedule
                                                              : out.free;
        if constexpr (std::is_same_v<Field, Flag>) group[name] = field.on;
        else group[name] = field;
    }
    template <class Field> void positional(const char* name, const Field& field, const char*) const {
        out.free[name] = field;
    }
};

/// Collects the names of the options that the user gave. A --config file may state defaults, such as the settings of a
/// published recipe, so an option that only the file gives counts if it differs from its default.
struct ToGiven {
    const CLI::App& app;
    const OptionsOfFile& of_file;
    const Json &values, &defaults;
    std::vector<std::string>& out;
    template <class Field> void operator()(const char* name, const Field&, OptionClass, const char*) const {
        const CLI::Option* option = app.get_option(std::string("--") + name);
        const bool states_default = of_file.count(option) != 0 && values[name] == defaults[name];
        if (option->count() > 0 && !states_default) out.emplace_back(name);
    }
    template <class Field> void positional(const char*, const Field&, const char*) const {}
};

/// The values of all options by name.
template <class Options> Json values_of(Options options) {
    OptionClasses classes;
    options.visit(ToClasses{classes});
    Json values = classes.identity;
    values.update(classes.schedule);
    values.update(classes.free);
    return values;
}

}  // namespace detail

/// Parses `arguments`, those after the subcommand, into `options`. Throws an Error with one sentence for anything
/// that the table does not have, and for an option that has no effect (jobs/command_line/without_effect.h).
template <class Options>
Parsed parse_options(const std::string& command, const std::string& description, std::vector<std::string> arguments,
                     Options& options) {
    CLI::App app(description, "longlora " + command);
    app.option_defaults()->always_capture_default();
    options.visit(detail::AddOption{app});
    app.set_config("--config", "",
                   "TOML file of options, named as here without the leading dashes; the command line wins")
        ->check(why_no_config_file, "");
    OptionsOfFile of_file;
    app.config_formatter(config_reader(app, of_file));
    app.allow_config_extras(CLI::config_extras_mode::error);
    std::reverse(arguments.begin(), arguments.end());
    try {
        app.parse(arguments);
    } catch (const CLI::CallForHelp&) {
        return {false, app.help()};
    } catch (const CLI::ParseError& e) {
        fail(text(sentence_of(e, app), "; 'longlora ", command, " --help' lists the options"));
    }
    const Json values = detail::values_of(options), defaults = detail::values_of(Options());
    std::vector<std::string> given;
    options.visit(detail::ToGiven{app, of_file, values, defaults, given});
    refuse_without_effect(command, given, values);
    return {};
}

/// The values of all options by class, for manifests and checkpoints.
template <class Options> OptionClasses classes_of(Options options) {
    OptionClasses out;
    options.visit(detail::ToClasses{out});
    return out;
}

}  // namespace longlora
