// Translates the patterns of tokenizer.json, which are written for Oniguruma with the syntax of Ruby, into patterns of
// PCRE2. Both libraries read much of a pattern differently without an error (nested classes, ^, \h, \w, {,n}). Only
// what means the same in both, or has a translation, passes; everything else is an Error.
#pragma once

#include <string>

#include "io/json.h"

namespace longlora {

/// An Error names the pattern and the part that has no translation; `where` stands before it.
std::string pcre_of_oniguruma(const std::string& pattern, const std::string& where);

/// A pattern that matches exactly this text.
std::string pcre_of_text(const std::string& text);

/// A pattern as tokenizer.json has it: {"String": text} or {"Regex": pattern}.
struct GivenPattern {
    std::string text;
    bool is_regex = false;
    std::string pcre(const std::string& where) const {
        return is_regex ? pcre_of_oniguruma(text, where) : pcre_of_text(text);
    }
};
GivenPattern read_pattern(const Json& json, const std::string& part, const std::string& path);

}  // namespace longlora
