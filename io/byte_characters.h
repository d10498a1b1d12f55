// The printable characters by which a byte-level vocabulary spells bytes: GPT-2's table. Most bytes of ASCII are
// spelled by themselves, a space by U+0120.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace longlora {

/// The character, in UTF-8, that stands for a byte.
const std::string& character_of_byte(unsigned char byte);

/// The bytes that `spelled` (valid UTF-8) stands for; nothing if it has a character that stands for no byte.
std::optional<std::string> bytes_of_characters(std::string_view spelled);

}  // namespace longlora
