// Errors and exit codes. What a user did wrong is an Error with one sentence; what we did wrong is a std::logic_error
// with its place. Not here: agreeing on an error over ranks (src/parallel/agree.h) and printing it (jobs/main.cpp).
#pragma once

#include <new>
#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>

namespace longlora {

/// Exit codes are an interface for job scripts (README of jobs/).
enum class ExitCode : int {
    done = 0,
    internal = 1,
    bad_input = 2,
    does_not_fit = 3,
    non_finite = 4,
    communication = 5,
    stopped = 75
};

/// A sentence for the user that names the thing and the way out. Never says "error:" itself.
struct Error : std::runtime_error {
    explicit Error(const std::string& sentence, ExitCode exit_code = ExitCode::bad_input)
        : std::runtime_error(sentence),
          code(exit_code) {}
    ExitCode code;
};

/// The exit code of whatever was thrown, and the sentence for it.
inline ExitCode exit_code_of(const std::exception& e) {
    if (const auto* error = dynamic_cast<const Error*>(&e)) return error->code;
    return dynamic_cast<const std::bad_alloc*>(&e) ? ExitCode::does_not_fit : ExitCode::internal;
}
inline std::string sentence_of(const std::exception& e) {
    if (!dynamic_cast<const std::bad_alloc*>(&e)) return e.what();
    return "the machine's memory is used up; run fewer ranks on a machine, or a smaller job (as with a shorter "
           "--context)";
}

/// text("step ", 3, " of ", 10): the arguments streamed into one string.
template <class... Parts> std::string text(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    return out.str();
}

[[noreturn]] inline void fail(const std::string& sentence, ExitCode code = ExitCode::bad_input) {
    throw Error(sentence, code);
}

/// User's responsibility: throws Error. The parts are put together only when the condition is false.
template <class... Parts> void require(bool condition, const Parts&... parts) {
    if (!condition) fail(text(parts...));
}

/// Our responsibility: throws std::logic_error with file and line.
inline void ensure(bool condition, const char* what, std::source_location at = std::source_location::current()) {
    if (!condition) throw std::logic_error(text("internal: ", what, " (", at.file_name(), ":", at.line(), ")"));
}

}  // namespace longlora
