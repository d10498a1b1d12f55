// Reading JSON texts and their values so that what is wrong is one sentence naming the file. No schema of any
// particular file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace longlora {

using Json = nlohmann::json;

/// `where` is put in front of the reason: "config.json is not valid JSON: ...".
Json parse_json(std::string_view text, const std::string& where);
/// " (line 1, column 2: invalid literal)" of what nlohmann-json says about text that is not JSON; never the bytes it
/// met.
std::string place_and_reason(const std::string& words);
Json read_json_file(const std::string& path);

/// A required member of an object; its type is checked by the caller's get_*.
const Json& member(const Json& object, const char* key, const std::string& where);
std::int64_t get_integer(const Json& object, const char* key, const std::string& where);
std::string get_text(const Json& object, const char* key, const std::string& where);

/// One line, keys sorted, invalid UTF-8 replaced: the form that is written to files and hashed.
std::string to_line(const Json& value);

}  // namespace longlora
