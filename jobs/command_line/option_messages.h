// Errors of the command line and of the --config file that the parser itself detects, as one sentence each instead of
// the parser's own text. Values that an option does not allow are refused by the check of its option table, for
// example in jobs/experiment/options.cpp.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <set>
#include <string>

namespace longlora {

/// Each throws an Error unless `value`, given to `option`, fits the type of the option: a whole number that 64 bits
/// hold, a number, or true or false.
void require_whole_number(const std::string& option, const std::string& value);
void require_number(const std::string& option, const std::string& value);
void require_boolean(const std::string& option, const std::string& value);

/// The options that the --config file gives and the command line does not.
using OptionsOfFile = std::set<const CLI::Option*>;

/// A reader for --config files. It throws an Error that names the file and the key for anything that is not an option
/// of `app`. When the parser, which reads the command line first, has used it, `of_file` has the options of the file.
std::shared_ptr<CLI::Config> config_reader(const CLI::App& app, OptionsOfFile& of_file);

/// Why a file that exists cannot be a --config file, as the parser's checks say it; "" if it can be one. The parser
/// would wait without end for the writer of a named pipe.
std::string why_no_config_file(const std::string& path);

/// The sentence for an error of the parser, without a full stop.
std::string sentence_of(const CLI::ParseError& error, const CLI::App& app);

}  // namespace longlora
