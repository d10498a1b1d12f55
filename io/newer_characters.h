// The characters that came after Unicode 14, by general category. PCRE2 before 10.43 does not know them; the libraries
// that `tokenizers` uses do.
#pragma once

#include <string>

namespace longlora {

/// The characters of a general category ("L", "Nd") that are newer than Unicode 14 and not newer than Unicode 16, as
/// the inside of a class of a regular expression; "" if there are none.
std::string newer_characters(const std::string& category);

/// The digits and numbers that are newer than Unicode 16, in the same form.
extern const char* const kNewestNumbers;

}  // namespace longlora
