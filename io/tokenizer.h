// Converts text to token ids and back. There are two kinds of tokenizers: SentencePiece (tokenizer.model) and
// BPE (tokenizer.json). Both cut out the tokens that files beside them add (io/tokenizer_config.h). Neither
// adds ids around a text: frame() says which ones belong there, and the caller adds them. Texts for any other tokenizer
// must come as token ids (io/documents.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/added_tokens.h"
#include "io/text_frame.h"
#include "io/token_decoder.h"

namespace longlora {

class Tokenizer {
public:
    virtual ~Tokenizer() = default;
    /// The ids of a text in valid UTF-8 (io/utf8.h), without those around it. An Error if a part of the text has no id.
    /// Thread-safe.
    virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
    /// The text of ids without special tokens. While a model writes, DecodeStream(decoder()) gives it token by token.
    std::string decode(const std::vector<std::int32_t>& ids) const { return decoder().decode(ids); }
    virtual const TokenDecoder& decoder() const = 0;
    virtual std::int64_t vocabulary() const = 0;
    virtual std::int32_t bos() const = 0;  // -1: none
    virtual std::int32_t eos() const = 0;
    /// What transformers puts around a text.
    virtual const TextFrame& frame() const = 0;
    /// The text of an id, also of a special one; for messages.
    std::string name_of(std::int32_t id) const { return decoder().name_of(id); }
    virtual std::string kind() const = 0;  // "sentencepiece", "byte-bpe", "bpe"
    /// SHA-256 of the tokenizer's file.
    virtual std::string hash() const = 0;
    /// Differs for tokenizers that differ in anything that ids depend on, also in files beside the tokenizer's file.
    virtual std::string key() const = 0;
    /// What the user should know: where other programs take the same files for another tokenizer.
    virtual std::vector<std::string> notes() const { return {}; }
};

/// `path` is a folder (with tokenizer.json, or else tokenizer.model) or one of these files.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path);

/// The key() of a tokenizer of either kind.
std::string key_of(const Tokenizer& tokenizer, const AddedTokens& added, const std::string& settings = "");

std::unique_ptr<Tokenizer> open_sentencepiece(const std::string& path);
std::unique_ptr<Tokenizer> open_tokenizer_json(const std::string& path);
/// An Error if a token has another id in the tokenizer.json than in the tokenizer.model, if that is one of
/// SentencePiece.
void check_same_vocabulary(const std::string& model_path, const std::string& json_path);

}  // namespace longlora
