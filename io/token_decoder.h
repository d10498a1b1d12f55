// Makes text of token ids, as decode(ids, skip_special_tokens=True) of the library `tokenizers` does: all at once, or
// token by token while a model writes. It has what a "decoder" of tokenizer.json says, in one form for all kinds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/json.h"
#include "io/utf8.h"

namespace longlora {

/// A token as the vocabulary spells it. Nothing is known of an id whose spelling is empty: it gives no text.
struct SpelledToken {
    std::string spelled;
    bool special = false;  // gives no text
};

class TokenDecoder {
public:
    TokenDecoder() = default;
    /// `json` is the "decoder" of a tokenizer.json, or null. What is not supported is an Error when text is wanted.
    TokenDecoder(const Json& json, std::vector<SpelledToken> tokens, const std::string& path);

    /// The text of ids, without special tokens. Bytes that are not UTF-8 become U+FFFD.
    std::string decode(const std::vector<std::int32_t>& ids) const;
    /// The bytes that a token gives inside a text; none for a special one. They need not be whole characters. A text
    /// may begin with fewer bytes: a space that the tokenizer puts in front is taken away again.
    const std::string& bytes_of(std::int32_t id) const { return token(id).bytes; }
    /// The token itself, also a special one, as people read it: spaces are spaces.
    const std::string& name_of(std::int32_t id) const { return token(id).name; }
    bool is_special(std::int32_t id) const { return token(id).special; }

private:
    friend class DecodeStream;
    struct Token {
        std::string name, bytes;
        bool special = false, is_byte = false;  // is_byte: "<0xE2>", a byte of a character
    };
    struct Rules {
        bool byte_level = false;     // tokens are bytes, and the whole text is repaired
        bool byte_fallback = false;  // so are tokens like "<0xE2>", in runs of valid UTF-8
        std::vector<std::pair<std::string, std::string>> replace;
        std::string dropped_from_first;  // every occurrence of it in the first token is left out
        std::string stripped;            // up to `num_stripped` of it are left out at the begin of the text
        std::int64_t num_stripped = 0;
        std::string between;  // stands between two tokens
        bool fused = false;   // Fuse was read: only Strip may follow
    };
    const Token& token(std::int32_t id) const;
    void read(const Json& json, const std::string& path);
    Token token_of(const SpelledToken& spelled) const;

    std::string path_, problem_;  // problem_: the Error about what is not supported
    Rules rules_;
    std::vector<Token> tokens_;
};

/// A text that grows by tokens. What add() and finish() return, one behind another, is decode() of the tokens.
class DecodeStream {
public:
    /// The decoder must live longer than the stream.
    explicit DecodeStream(const TokenDecoder& decoder);
    /// The text that is certain now: whole characters only, so it may be empty. An Error if the id is beyond the
    /// vocabulary.
    std::string add(std::int32_t id);
    /// The rest, at the end of the text.
    std::string finish();

private:
    std::string end_of_run();
    std::string without_begin(std::string text);

    const TokenDecoder* decoder_;
    Utf8Repair repair_;  // byte-level
    std::string run_;    // bytes of tokens like "<0xE2>" since the last other token
    bool first_ = true;
    std::int64_t strip_left_;
};

}  // namespace longlora
