// The "normalizer" of a tokenizer.json: what changes a text before its tokenizer cuts it. Added tokens that are not
// normalized are cut out before (io/added_tokens.h).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace longlora {

class Normalizer {
public:
    /// Changes nothing.
    Normalizer() = default;
    /// An Error names what is not supported. null changes nothing.
    Normalizer(const Json& json, const std::string& path);

    bool changes() const { return !steps_.empty(); }
    /// `text` is valid UTF-8, and so is the result. Thread-safe.
    std::string apply(std::string_view text) const;

private:
    void add(const Json& json, const std::string& path);
    std::vector<std::function<std::string(const std::string&)>> steps_;
};

/// A text with every occurrence of `from`, which is not empty, replaced; from left to right.
std::string with_replaced(const std::string& text, const std::string& from, const std::string& to);

}  // namespace longlora
