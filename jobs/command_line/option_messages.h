// What a command line or a --config file says that no option table knows: one sentence each, in place of the parser's
// own words. The tables are not here.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

namespace longlora {

/// Throws an Error unless `value`, given to `option`, is what its field holds: a whole number that fits, a number, true
/// or false.
void require_whole_number(const std::string& option, const std::string& value);
void require_number(const std::string& option, const std::string& value);
void require_boolean(const std::string& option, const std::string& value);

/// Reads a --config file; throws an Error that names file and line's key for anything but options of `app`.
std::shared_ptr<CLI::Config> config_reader(const CLI::App& app);

/// The sentence for an error of the parser, without a full stop.
std::string sentence_of(const CLI::ParseError& error, const CLI::App& app);

}  // namespace longlora
