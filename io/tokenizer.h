// Converts text to token ids and back. There are two kinds of tokenizers: SentencePiece (tokenizer.model) and
// byte-level BPE (tokenizer.json). Neither adds bos or eos: the caller does. Texts for any other tokenizer must come
// as token ids (io/documents.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace longlora {

class Tokenizer {
public:
    virtual ~Tokenizer() = default;
    /// The ids of a text in valid UTF-8 (io/utf8.h), without bos and eos. Thread-safe.
    virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
    virtual std::string decode(const std::vector<std::int32_t>& ids) const = 0;
    virtual std::int64_t vocabulary() const = 0;
    virtual std::int32_t bos() const = 0;  // -1: none
    virtual std::int32_t eos() const = 0;
    virtual std::string kind() const = 0;  // "sentencepiece", "byte-bpe"
    /// SHA-256 of the tokenizer's file.
    virtual std::string hash() const = 0;
};

/// `path` is a folder (with tokenizer.model, or else tokenizer.json) or one of these files.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path);

std::unique_ptr<Tokenizer> open_sentencepiece(const std::string& path);
std::unique_ptr<Tokenizer> open_byte_bpe(const std::string& path);

}  // namespace longlora
