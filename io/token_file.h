// The token file that `prepare` writes and training reads: tokens of all documents one after another, where each
// begins, their names, and what made them. A named-tensor file (io/named_tensor_file.h) with these tensors:
//   tokens (uint16 up to 65,536 ids, else uint32)   document_begin (uint64, D + 1)   document_name (uint8)
//   document_name_begin (uint64, D + 1)
// Not here: the order of training sequences (src/train/) and tokenization (io/tokenizer.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/named_tensor_file.h"

namespace longlora {

constexpr const char* kTokenFileFormat = "longlora token file";
constexpr std::int64_t kTokenFileVersion = 1;

/// What a token file says about its making.
struct TokenFileInfo {
    std::string tokenizer_kind;  // "sentencepiece", "byte-bpe" or "none" (ready-made ids)
    std::string tokenizer_hash;  // SHA-256 of the tokenizer's file; empty for "none"
    std::int64_t vocabulary = 0;
    std::int32_t bos = -1, eos = -1;  // -1: none
    std::string sources = "[]";       // JSON list: per source file its name, bytes, sha256
};

/// A reader; all functions are safe from any thread after construction (which calls HDF5: main thread).
class TokenFile {
public:
    explicit TokenFile(const std::string& path);

    const std::string& path() const { return reader_.path(); }
    std::int64_t num_tokens() const { return num_tokens_; }
    std::int64_t num_documents() const { return static_cast<std::int64_t>(document_begin_.size()) - 1; }
    /// D + 1 values, non-decreasing, first 0, last num_tokens(): document d is tokens [document_begin()[d],
    /// document_begin()[d + 1]).
    const std::vector<std::uint64_t>& document_begin() const { return document_begin_; }
    std::string document_name(std::int64_t document) const;
    /// Index of the document that token i belongs to.
    std::int64_t document_of(std::int64_t token) const;

    const TokenFileInfo& info() const { return info_; }
    std::int64_t vocabulary() const { return info_.vocabulary; }
    std::int32_t bos() const { return info_.bos; }
    std::int32_t eos() const { return info_.eos; }
    const std::string& tokenizer_kind() const { return info_.tokenizer_kind; }
    const std::string& tokenizer_hash() const { return info_.tokenizer_hash; }
    /// Equal for equal tokens, documents and vocabulary, whatever the path: SHA-256 over sizes and block checksums.
    const std::string& content_hash() const { return content_hash_; }
    DType token_dtype() const { return tokens_.dtype; }

    /// Tokens [begin, begin + count). Every block touched is verified each time, since what a disk gave once it may
    /// give differently later; that costs 0.1 ms a MiB. An id beyond the vocabulary is an Error with file and position.
    void read(std::int64_t begin, std::int64_t count, std::int32_t* out) const;
    /// Every byte of the file against its checksums, every id against the vocabulary.
    void verify_all() const;

private:
    NamedTensorReader reader_;
    TokenFileInfo info_;
    TensorEntry tokens_;
    std::int64_t num_tokens_ = 0;
    std::vector<std::uint64_t> document_begin_, name_begin_;
    std::string content_hash_;
};

/// uint16 up to 65,536 ids, else uint32.
DType token_dtype_for(std::int64_t vocabulary);
/// The tensors of a token file, in the order of the indices below.
std::vector<NamedTensor> token_file_tensors(std::int64_t vocabulary, std::int64_t num_tokens,
                                            std::int64_t num_documents, std::int64_t name_bytes);
enum TokenFileTensor : std::int64_t { kTokens = 0, kDocumentBegin = 1, kDocumentName = 2, kDocumentNameBegin = 3 };
std::string token_file_attributes(const TokenFileInfo& info);

/// A whole token file from memory, for tests and small data (prepare writes in slices): OUT.partial, then renamed.
/// Names may be fewer than documents.
void write_token_file(const std::string& path, const TokenFileInfo& info,
                      const std::vector<std::vector<std::int32_t>>& documents,
                      const std::vector<std::string>& names = {});

}  // namespace longlora
