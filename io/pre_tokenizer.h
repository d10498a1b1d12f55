// The "pre_tokenizer" of a tokenizer.json: cuts a text into words, which the merges of its model do not cross, and puts
// a space in front where it says so. What a word becomes is in io/bpe_model.h.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/regex_split.h"

namespace longlora {

class PreTokenizer {
public:
    /// An Error names what is not supported. null does not cut.
    PreTokenizer(const Json& json, const std::string& path);

    /// Whether the vocabulary spells bytes instead of characters (io/byte_characters.h).
    bool is_byte_level() const { return byte_level_; }
    /// Whether the whole of it is one part that says "add_prefix_space", and what it says.
    std::optional<bool> add_prefix_space() const { return add_prefix_space_; }
    /// The words of `text` in order. `first`: nothing stands before it in the whole text. The views point into `text`,
    /// or into texts that are added to `changed`. Thread-safe.
    std::vector<std::string_view> words_of(std::string_view text, bool first, std::deque<std::string>& changed) const;

private:
    enum class Prefix { never, first, always };
    struct Step {
        std::string space;  // replaces " "; empty: nothing does
        Prefix prefix;      // which words get `front` in front if they do not begin with it
        std::string front;
        bool cuts;       // by `split`, or by `at`
        std::string at;  // not empty: a word begins wherever this text is
        std::optional<RegexSplit> split;
    };
    void add(const Json& json, const std::string& path);
    Step metaspace(const Json& json, const std::string& path) const;

    std::vector<Step> steps_;
    std::optional<bool> add_prefix_space_;
    bool byte_level_ = false;
};

}  // namespace longlora
