// Cuts texts into pieces by a regular expression, as the "Isolated" splits of the pre-tokenizers in tokenizer.json
// do: each match is a piece, and so is the text between two matches; an empty match only cuts. Uses PCRE2 with Unicode
// properties. Patterns of tokenizer.json come from another library: io/regex_dialect.h translates them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace longlora {

class RegexSplit {
public:
    /// An Error about a pattern that PCRE2 does not understand names the file by `where`.
    RegexSplit(const std::string& pattern, const std::string& where);
    /// Appends the pieces of `text`, which is valid UTF-8, in order; no piece is empty. Thread-safe.
    void append_pieces(std::vector<std::string_view>& pieces, std::string_view text) const;
    /// `text` (valid UTF-8) with every match replaced by `by`. An Error if a match is empty. Thread-safe.
    std::string replaced(std::string_view text, std::string_view by) const;
    /// Whether the pattern matches anywhere in `text`. Thread-safe.
    bool matches(std::string_view text) const;

private:
    template <class Visit> void walk(std::string_view text, const Visit& visit) const;
    std::string where_;
    std::shared_ptr<void> code_;  // pcre2_code
};

}  // namespace longlora
