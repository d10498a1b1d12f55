// Makes valid UTF-8 of any bytes: every maximal part of an ill-formed sequence becomes one U+FFFD (Unicode 15,
// section 3.9, "substitution of maximal subparts", as browsers and Python do). It does not normalise.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace longlora {

/// Repairs text that comes in pieces, which may be cut anywhere.
class Utf8Repair {
public:
    /// Returns valid UTF-8 for all bytes that can be decided so far. Up to three bytes wait for the next piece.
    std::string add(std::string_view bytes);
    /// Call this at the end: returns one replacement if an unfinished sequence still waits, else nothing.
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
