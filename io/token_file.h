// The token file that `longlora prepare` writes and training reads: the tokens of all documents one after another,
// the beginning and the name of each document, and a description of the sources. It is a named-tensor file
// (io/named_tensor_file.h) with these tensors for D documents:
//   tokens                uint16 if the vocabulary has at most 65,536 ids, else uint32
//   document_begin        uint64, D + 1 positions in tokens
//   document_name         uint8, the names one after another
//   document_name_begin   uint64, D + 1 positions in document_name
// The order of training sequences is in src/train/data_order.h, tokenization in io/tokenizer.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/named_tensor_file.h"

namespace longlora {

constexpr const char* kTokenFileFormat = "longlora token file";
constexpr std::int64_t kTokenFileVersion = 1;

/// How a token file was made.
struct TokenFileInfo {
    std::string tokenizer_kind;  // "sentencepiece", "byte-bpe" or "none" (the sources were token ids)
    std::string tokenizer_hash;  // SHA-256 of the tokenizer's file; empty for "none"
    std::int64_t vocabulary = 0;
    std::int32_t bos = -1, eos = -1;  // -1: none
    std::string sources = "[]";       // JSON list: name, bytes and sha256 of each source file
};

/// Reads a token file. The constructor calls HDF5, so only the main thread may call it; then all functions are safe
/// from any thread.
class TokenFile {
public:
    explicit TokenFile(const std::string& path);

    const std::string& path() const { return reader_.path(); }
    std::int64_t num_tokens() const { return num_tokens_; }
    std::int64_t num_documents() const { return static_cast<std::int64_t>(document_begin_.size()) - 1; }
    /// D + 1 values that never fall; the first is 0, the last num_tokens(). Document d is tokens
    /// [document_begin()[d], document_begin()[d + 1]).
    const std::vector<std::uint64_t>& document_begin() const { return document_begin_; }
    std::string document_name(std::int64_t document) const;
    /// The index of the document that holds this token.
    std::int64_t document_of(std::int64_t token) const;

    const TokenFileInfo& info() const { return info_; }
    std::int64_t vocabulary() const { return info_.vocabulary; }
    std::int32_t bos() const { return info_.bos; }
    std::int32_t eos() const { return info_.eos; }
    const std::string& tokenizer_kind() const { return info_.tokenizer_kind; }
    const std::string& tokenizer_hash() const { return info_.tokenizer_hash; }
    /// Equal for equal tokens, documents and vocabulary, whatever the path: SHA-256 over the sizes and the block
    /// checksums.
    const std::string& content_hash() const { return content_hash_; }
    DType token_dtype() const { return tokens_.dtype; }

    /// Reads tokens [begin, begin + count). It verifies every block that they touch each time, since a disk may
    /// return other bytes later; that costs 0.1 ms per MiB. An id beyond the vocabulary is an Error that names the
    /// file and the position.
    void read(std::int64_t begin, std::int64_t count, std::int32_t* out) const;
    /// Verifies every byte of all tensors by the checksums, and that every id is inside the vocabulary.
    void verify_all() const;

private:
    NamedTensorReader reader_;
    TokenFileInfo info_;
    TensorEntry tokens_;
    std::int64_t num_tokens_ = 0;
    std::vector<std::uint64_t> document_begin_, name_begin_;
    std::string content_hash_;
};

/// uint16 for at most 65,536 ids, else uint32.
DType token_dtype_for(std::int64_t vocabulary);
/// The tensors of a token file, in the order of TokenFileTensor.
std::vector<NamedTensor> token_file_tensors(std::int64_t vocabulary, std::int64_t num_tokens,
                                            std::int64_t num_documents, std::int64_t name_bytes);
enum TokenFileTensor : std::int64_t { kTokens = 0, kDocumentBegin = 1, kDocumentName = 2, kDocumentNameBegin = 3 };
std::string token_file_attributes(const TokenFileInfo& info);

/// Writes a whole token file from memory, for tests and small data (jobs/prepare writes in slices): writes
/// PATH.partial and renames it. There may be fewer names than documents.
void write_token_file(const std::string& path, const TokenFileInfo& info,
                      const std::vector<std::vector<std::int32_t>>& documents,
                      const std::vector<std::string>& names = {});

}  // namespace longlora
