// Classes of Unicode characters, as the regular expressions \s and \w of the library `tokenizers` have them, and the
// first and last character of a text. Whether bytes are UTF-8 at all is decided in io/utf8.h.
#pragma once

#include <cstddef>
#include <string_view>

namespace longlora {

/// The bytes of the characters of White_Space that `text` (valid UTF-8) begins or ends with.
std::size_t space_at_begin(std::string_view text);
std::size_t space_at_end(std::string_view text);

/// Whether `text` (valid UTF-8) begins or ends with a character of a word: a letter, a mark, a decimal digit, a
/// connector such as "_", or a joiner. An Error if PCRE2 is older than 10.40, which does not know these characters.
bool word_at_begin(std::string_view text);
bool word_at_end(std::string_view text);

/// White_Space as the inside of a class of a regular expression, and its complement.
extern const char* const kSpaceRanges;
extern const char* const kNoSpaceRanges;

}  // namespace longlora
