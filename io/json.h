// Reads JSON texts and the values in them; whatever is wrong becomes one Error sentence that names the file. The
// schema of each kind of file belongs to the code that reads it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace longlora {

using Json = nlohmann::json;

/// `where` stands before the reason: "config.json is not valid JSON (line 1, column 2: invalid literal)".
Json parse_json(std::string_view text, const std::string& where);
/// The place and the reason in nlohmann-json's message about text that is not JSON, as " (line 1, column 2: invalid
/// literal)". It leaves out the bytes of the text that the message quotes.
std::string place_and_reason(const std::string& words);
Json read_json_file(const std::string& path);

/// A required member of an object, of any type; the get_... functions below also check the type.
const Json& member(const Json& object, const char* key, const std::string& where);
std::int64_t get_integer(const Json& object, const char* key, const std::string& where);
std::string get_text(const Json& object, const char* key, const std::string& where);

/// The value as one line with sorted keys and with invalid UTF-8 replaced: the form that is written to files and
/// hashed.
std::string to_line(const Json& value);

}  // namespace longlora
