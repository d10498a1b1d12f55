// The tokenizer.model of Llama 1 and 2, read by the SentencePiece library.
#include <sentencepiece_processor.h>

#include "core/error.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/tokenizer.h"

namespace longlora {

namespace {

class SentencePieceTokenizer : public Tokenizer {
public:
    explicit SentencePieceTokenizer(const std::string& path) : path_(path) {
        const std::string content = read_text_file(path);
        hash_ = sha256_of(content);
        bool loaded = false;
        try {
            loaded =
                !content.empty() && processor_.LoadFromSerializedProto(content).ok() && processor_.GetPieceSize() > 0;
        } catch (const std::exception&) {  // a damaged length may let protobuf run out of memory
        }
        require(loaded, path, " is not a SentencePiece model");
    }

    std::vector<std::int32_t> encode(std::string_view content) const override {
        std::vector<int> ids;
        const auto status = processor_.Encode({content.data(), content.size()}, &ids);
        require(status.ok(), "the tokenizer ", path_, " cannot encode a text: ", status.ToString());
        return ids;
    }
    std::string decode(const std::vector<std::int32_t>& ids) const override {
        for (std::int32_t id : ids)
            require(id >= 0 && id < vocabulary(), "the id ", id, " is beyond the vocabulary of ", path_);
        std::string content;
        const auto status = processor_.Decode(ids, &content);
        require(status.ok(), "the tokenizer ", path_, " cannot decode: ", status.ToString());
        return content;
    }
    std::int64_t vocabulary() const override { return processor_.GetPieceSize(); }
    std::int32_t bos() const override { return processor_.bos_id(); }
    std::int32_t eos() const override { return processor_.eos_id(); }
    std::string kind() const override { return "sentencepiece"; }
    std::string hash() const override { return hash_; }

private:
    std::string path_, hash_;
    sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::unique_ptr<Tokenizer> open_sentencepiece(const std::string& path) {
    return std::make_unique<SentencePieceTokenizer>(path);
}

}  // namespace longlora
