// Added tokens: the tokens that are cut out of a text before the model of its tokenizer sees it, as the library
// `tokenizers` of Hugging Face cuts them. Which tokens these are is decided in io/tokenizer_config.h.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/normalizer.h"
#include "io/prefix_tree.h"

namespace longlora {

constexpr std::int32_t kNoId = -1;

struct AddedToken {
    std::string content;
    std::int32_t id = kNoId;              // kNoId: a file names the token, but no file gives it an id
    std::string where;                    // the file, and the place in it, that has the token
    bool single_word = false;             // is no token beside a character of a word
    bool lstrip = false, rstrip = false;  // takes the white space on its left, on its right along
    bool normalized = false;              // is looked for in the normalized text between the tokens that are not
    bool special = false;
};

/// Reads a token as files of Hugging Face write it; content is a string, flags that are missing are false.
AddedToken read_added_token(const Json& json, const std::string& where);

/// "added_tokens" of a tokenizer.json; none if it has no such list. Its parts have no other fields than those of the
/// list in io/tokenizer_fields.h.
std::vector<AddedToken> read_added_tokens(const Json& tokenizer, const std::string& path);

/// A part of a text: an added token, or text between two of them (id is kNoId).
struct TextPiece {
    std::string_view text;
    std::int32_t id = kNoId;
    bool first = false;  // nothing of the whole text stands before it
};

class AddedTokens {
public:
    AddedTokens() = default;
    /// No two tokens have the same content. Tokens without content never occur.
    explicit AddedTokens(std::vector<AddedToken> tokens, Normalizer normalizer = {});
    /// The parts of `text` in order; none is empty. What is between the tokens that are not normalized is normalized,
    /// and the other tokens are cut out of it. Of the tokens at a place the longest counts, of overlapping ones the
    /// leftmost. The views point into `text`, or into texts that are added to `changed`. An Error if a token without an
    /// id occurs.
    std::vector<TextPiece> split(std::string_view text, std::deque<std::string>& changed) const;
    const std::vector<AddedToken>& all() const { return tokens_; }
    const AddedToken* find(const std::string& content) const;

private:
    struct Pass {
        PrefixTree tree;
        std::vector<std::int32_t> token;  // of each text of the tree
    };
    void split_by(const Pass& pass, std::string_view text, std::vector<TextPiece>& pieces) const;

    std::vector<AddedToken> tokens_;
    Normalizer normalizer_;
    Pass passes_[2];  // the tokens that are not normalized, then those that are
};

}  // namespace longlora
