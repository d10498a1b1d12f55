// Wraps nlohmann-json; its errors become sentences that name the file.
#include "io/json.h"

#include "core/error.h"
#include "io/file.h"

namespace longlora {

// `words` is like "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while parsing value
// - invalid literal; last read: ..."
std::string place_and_reason(const std::string& words) {
    const auto place = words.find(" at line "), end = words.find(": ", place), dash = words.find(" - ", end);
    if (place == std::string::npos || end == std::string::npos || dash == std::string::npos) return "";
    return text(" (", words.substr(place + 4, end - place - 4), ": ",
                words.substr(dash + 3, words.find_first_of(";:", dash) - dash - 3), ")");
}

Json parse_json(std::string_view content, const std::string& where) {
    try {
        return Json::parse(content);
    } catch (const Json::exception& problem) {
        fail(text(where, " is not valid JSON", place_and_reason(problem.what())));
    }
}

Json read_json_file(const std::string& path) { return parse_json(read_text_file(path), path); }

const Json& member(const Json& object, const char* key, const std::string& where) {
    require(object.is_object() && object.contains(key), where, " has no \"", key, "\"");
    return object[key];
}

std::int64_t get_integer(const Json& object, const char* key, const std::string& where) {
    const Json& value = member(object, key, where);
    const bool fits =
        value.is_number_unsigned() ? value.get<std::uint64_t>() <= 0x7fffffffffffffffull : value.is_number_integer();
    require(fits, where, ": \"", key, "\" is ", to_line(value).substr(0, 60), ", not a whole number");
    return value.get<std::int64_t>();
}

std::string get_text(const Json& object, const char* key, const std::string& where) {
    const Json& value = member(object, key, where);
    require(value.is_string(), where, ": \"", key, "\" is ", to_line(value).substr(0, 60), ", not a string");
    return value.get<std::string>();
}

std::string to_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace longlora
