// Makes any bytes valid UTF-8: every maximal part of an ill-formed sequence becomes one U+FFFD (Unicode 15,
// section 3.9, "substitution of maximal subparts", as browsers and Python do). No normalisation.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace longlora {

/// Bytes may come in pieces cut anywhere.
class Utf8Repair {
public:
    /// Valid UTF-8 for what can be decided so far; up to three bytes wait for the next piece.
    std::string add(std::string_view bytes);
    /// What still waited: an unfinished sequence is one replacement.
    std::string finish();
    std::int64_t num_replaced() const { return num_replaced_; }

private:
    std::string waiting_;
    std::int64_t num_replaced_ = 0;
};

/// Repairs a whole text in place; returns the number of replacements.
std::int64_t repair_utf8(std::string& text);

/// The UTF-8 bytes of one code point.
std::string utf8_of(std::uint32_t code_point);

}  // namespace longlora
