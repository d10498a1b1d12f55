// Cuts PTX text into statements and lists, which the decoders of instructions are given. It knows the grammar of PTX as
// far as nvcc uses it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sim/ptx/program.h"

namespace sim::ptx {

/// A piece of PTX up to `end`: ';', '{', '}', ':' (label) or '\n' (a directive of one line).
struct Statement {
    std::string_view text;
    int line = 0;
    char end = ';';
};

/// Cuts a text whose comments have been blanked.
std::vector<Statement> statements_of(std::string_view text);
/// Turns comments into blanks; lines stay where they are.
void blank_comments(std::string& text);

std::string_view trimmed(std::string_view text);
/// The parts between commas that are not inside of brackets.
std::vector<std::string_view> split_list(std::string_view text);
bool starts_with_word(std::string_view text, std::string_view word);
/// A decimal, hexadecimal, octal or binary integer, with or without a sign; nullopt if the text is not one.
std::optional<std::int64_t> integer_of(std::string_view text);

/// The demangled name without parameters and return type.
std::string demangled(const std::string& name);

/// Throws a Fault: "MODULE, PTX line 12 `text`: what".
[[noreturn]] void fault_in_text(const std::string& module, int line, std::string_view text, const std::string& what);

}  // namespace sim::ptx
