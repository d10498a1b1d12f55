// Cutting texts into pieces by regular expressions, as the pre-tokenizers of tokenizer.json do ("isolated": matches and
// what lies between them are pieces of their own). PCRE2 with Unicode properties.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace longlora {

class RegexSplit {
public:
    /// `where` names the file in the Error for a pattern that PCRE2 does not understand.
    RegexSplit(const std::string& pattern, const std::string& where);
    /// Appends the pieces of valid UTF-8, in order, none empty. Thread-safe.
    void append_pieces(std::vector<std::string_view>& pieces, std::string_view text) const;

private:
    std::string where_;
    std::shared_ptr<void> code_;  // pcre2_code
};

}  // namespace longlora
