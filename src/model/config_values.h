// Reads single keys of a config.json by type. Every message names the file, the key and its value. Only config.cpp
// (which keys a model has), config_rope.cpp (what rotary keys mean) and extend_rope.cpp include this.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "model/config.h"

namespace longlora {

using OrderedJson = nlohmann::ordered_json;

constexpr std::int64_t kLargestSize = std::int64_t{1} << 31;
constexpr double kLargestFactor = static_cast<double>(kLargestSize);  // of rotary scaling: one position becomes 2^31

/// A value for a message, in one short line.
inline std::string shown(const OrderedJson& value) {
    std::string line = value.dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
    if (line.size() > 60) line = line.substr(0, 57) + "...";
    return line;
}

/// The value of a key, or nullptr if it is absent or null (transformers treats both as "not given").
inline const OrderedJson* find_value(const OrderedJson& object, const char* key) {
    const auto at = object.find(key);
    return at == object.end() || at->is_null() ? nullptr : &*at;
}

inline std::int64_t whole_number(const OrderedJson& value, const char* key, const std::string& where) {
    const bool fits =
        value.is_number_unsigned() ? value.get<std::uint64_t>() <= 0x7fffffffffffffffull : value.is_number_integer();
    require(fits, where, ": ", key, " is ", shown(value), ", not a whole number");
    return value.get<std::int64_t>();
}

/// A count or width: 1 .. 2^31.
inline std::int64_t size_value(const OrderedJson& value, const char* key, const std::string& where) {
    const std::int64_t size = whole_number(value, key, where);
    require(size >= 1 && size <= kLargestSize, where, ": ", key, " is ", size, "; it must be between 1 and ",
            kLargestSize);
    return size;
}

inline double real_number(const OrderedJson& value, const char* key, const std::string& where) {
    require(value.is_number(), where, ": ", key, " is ", shown(value), ", not a number");
    const double number = value.get<double>();
    require(std::isfinite(number), where, ": ", key, " is not a finite number");
    return number;
}

inline bool truth(const OrderedJson& value, const char* key, const std::string& where) {
    require(value.is_boolean(), where, ": ", key, " is ", shown(value), ", not true or false");
    return value.get<bool>();
}

inline std::string word(const OrderedJson& value, const char* key, const std::string& where) {
    require(value.is_string(), where, ": ", key, " is ", shown(value), ", not a string");
    return value.get<std::string>();
}

/// Rotary scaling from rope_parameters (transformers 5), and from rope_theta and rope_scaling (transformers 4). If
/// both are there, they must agree.
RopeScaling parse_rope(const OrderedJson& json, std::int64_t max_positions, const std::string& where);

/// original * factor in tokens. The margin is for a factor that is a rounded quotient: it must not lose a token.
std::int64_t covered_by(std::int64_t original, double factor);

}  // namespace longlora
