// From text to statements and operands: what the decoders of instructions are given. The grammar of PTX as far as nvcc
// writes it.
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

/// Cuts a text whose comments are blanks already.
std::vector<Statement> statements_of(std::string_view text);
/// Comments become blanks; lines stay where they are.
void blank_comments(std::string& text);

std::string_view trimmed(std::string_view text);
/// Parts between commas that are not inside of brackets.
std::vector<std::string_view> split_list(std::string_view text);
bool starts_with_word(std::string_view text, std::string_view word);
/// Decimal, hexadecimal, octal or binary, with a sign; nullopt: none of them.
std::optional<std::int64_t> integer_of(std::string_view text);

/// Without parameters and return type.
std::string demangled(const std::string& name);

/// "PTX line 12 `text`: what"
[[noreturn]] void fault_in_text(const std::string& module, int line, std::string_view text, const std::string& what);

}  // namespace sim::ptx
