// Normal forms and lower case of Unicode texts, as the library `tokenizers` 0.23 computes them. The tables are those of
// utf8proc; where `tokenizers` has an older or a newer version of Unicode, this file follows `tokenizers`. Classes of
// characters are in io/characters.h.
#pragma once

#include <string>
#include <string_view>

namespace longlora {

enum class NormalForm { nfc, nfd, nfkc, nfkd };

/// `text` (valid UTF-8) in a normal form of Unicode 9. Characters that are newer than Unicode 9 stay as they are: they
/// neither decompose, nor compose, nor change their place among combining marks. Thread-safe.
std::string normalized(std::string_view text, NormalForm form);

/// `text` (valid UTF-8) with every character in lower case by Unicode 17, whatever stands around it: a capital sigma at
/// the end of a word becomes the same letter as elsewhere. Thread-safe.
std::string lowercase(std::string_view text);

}  // namespace longlora
