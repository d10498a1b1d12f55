// Errors and exit codes. A mistake of the user is an Error with one sentence; a mistake of this program is a
// std::logic_error with its place in the source. Ranks agree on an error in src/parallel/agree.h; jobs/main.cpp
// prints it.
#pragma once

#include <new>
#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>

namespace longlora {

/// Exit codes are an interface for job scripts; the repository's README.md lists them under "Stop and resume".
enum class ExitCode : int {
    done = 0,
    internal = 1,
    bad_input = 2,
    does_not_fit = 3,
    non_finite = 4,
    communication = 5,
    stopped = 75
};

/// A sentence for the user that names the thing and the way out. It does not begin with "error:".
struct Error : std::runtime_error {
    explicit Error(const std::string& sentence, ExitCode exit_code = ExitCode::bad_input)
        : std::runtime_error(sentence),
          code(exit_code) {}
    ExitCode code;
};

/// The exit code and the sentence for any exception.
inline ExitCode exit_code_of(const std::exception& e) {
    if (const auto* error = dynamic_cast<const Error*>(&e)) return error->code;
    return dynamic_cast<const std::bad_alloc*>(&e) ? ExitCode::does_not_fit : ExitCode::internal;
}
inline std::string sentence_of(const std::exception& e) {
    if (!dynamic_cast<const std::bad_alloc*>(&e)) return e.what();
    return "the machine's memory is used up; run fewer ranks on a machine, or a smaller job (as with a shorter "
           "--context)";
}

/// text("step ", 3, " of ", 10): streams the arguments into one string.
template <class... Parts> std::string text(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    return out.str();
}

[[noreturn]] inline void fail(const std::string& sentence, ExitCode code = ExitCode::bad_input) {
    throw Error(sentence, code);
}

/// Checks what the user is responsible for; throws an Error. Joins the parts only if the condition is false.
template <class... Parts> void require(bool condition, const Parts&... parts) {
    if (!condition) fail(text(parts...));
}

/// Checks what this program is responsible for; throws a std::logic_error with file and line.
inline void ensure(bool condition, const char* what, std::source_location at = std::source_location::current()) {
    if (!condition) throw std::logic_error(text("internal: ", what, " (", at.file_name(), ":", at.line(), ")"));
}

}  // namespace longlora
