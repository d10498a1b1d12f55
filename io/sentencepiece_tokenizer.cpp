// The tokenizer.model of Llama 1 and 2, read by the SentencePiece library. Tokens that files beside it add are cut out
// first, as transformers does; the text before and behind them is encoded part by part.
#include <sentencepiece_processor.h>

#include "core/error.h"
#include "io/added_tokens.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/tokenizer.h"
#include "io/tokenizer_config.h"

namespace longlora {

namespace {

/// A second normalizer_spec with add_dummy_prefix = false, as bytes of a model: a parser merges it into the first.
constexpr std::string_view kNoPrefix("\x1a\x02\x18\x00", 4);

class SentencePieceTokenizer : public Tokenizer {
public:
    explicit SentencePieceTokenizer(const std::string& path) : path_(path) {
        const std::string content = read_text_file(path);
        hash_ = sha256_of(content);
        require(!content.empty() && load(processor_, content), path, " is not a SentencePiece model");
        read_config();
        if (!prefix_first_ || (!prefix_later_ && !added_.all().empty()))
            require(load(bare_, content + std::string(kNoPrefix)), path, " is not a SentencePiece model");
    }

    std::vector<std::int32_t> encode(std::string_view content) const override {
        std::vector<std::int32_t> out;
        std::deque<std::string> changed;
        for (const TextPiece& piece : added_.split(content, changed)) {
            if (piece.id != kNoId) {
                out.push_back(piece.id);
                continue;
            }
            const bool prefix = piece.first ? prefix_first_ : prefix_later_;
            std::vector<int> ids;
            const auto status = (prefix ? processor_ : bare_).Encode({piece.text.data(), piece.text.size()}, &ids);
            require(status.ok(), "the tokenizer ", path_, " cannot encode a text: ", status.ToString());
            out.insert(out.end(), ids.begin(), ids.end());
        }
        return out;
    }
    const TokenDecoder& decoder() const override { return decoder_; }
    std::int64_t vocabulary() const override { return vocabulary_; }
    std::int32_t bos() const override { return bos_; }
    std::int32_t eos() const override { return eos_; }
    const TextFrame& frame() const override { return frame_; }
    std::string kind() const override { return "sentencepiece"; }
    std::string hash() const override { return hash_; }
    std::string key() const override { return key_of(*this, added_, text(prefix_first_, prefix_later_)); }

private:
    static bool load(sentencepiece::SentencePieceProcessor& processor, const std::string& content) {
        try {
            return processor.LoadFromSerializedProto(content).ok() && processor.GetPieceSize() > 0;
        } catch (const std::exception&) {  // a damaged length may let protobuf run out of memory
            return false;
        }
    }

    std::int32_t id_of(const std::string& piece) const {
        const int id = processor_.PieceToId(piece);
        return id >= 0 && processor_.IdToPiece(id) == piece ? id : kNoId;
    }

    /// A tokenizer.json beside tokenizer.model describes the same tokenizer to other programs. It may have more added
    /// tokens, and a template; its vocabulary must be the one of tokenizer.model.
    void check_vocabulary(const Json& json, const std::string& path) const {
        const Json& vocabulary = member(member(json, "model", path), "vocab", path);
        for (const auto& [key, value] : vocabulary.items()) {
            const bool list = vocabulary.is_array();  // [["<unk>", 0.0], ...]
            require(!list || (value.is_array() && !value.empty() && value[0].is_string()), path,
                    ": \"vocab\" is no vocabulary");
            const std::string token = list ? value[0].get<std::string>() : key;
            const Json id = list ? Json::parse(key) : value;
            require(id == id_of(token), path, " and ", path_, " disagree about the token ", token,
                    "; remove the one that is not the model's");
        }
    }

    /// To transformers, which reads the files beside tokenizer.model, control pieces ("<s>") are tokens in texts too.
    void add_control_pieces() {
        for (int id = 0; id < processor_.GetPieceSize(); ++id) {
            if (!processor_.IsControl(id)) continue;
            AddedToken token;
            token.content = processor_.IdToPiece(id), token.where = path_, token.special = true;
            config_.named.push_back(std::move(token));
        }
    }

    /// What the converter of transformers writes as "decoder", for a tokenizer.model that puts a space in front.
    TokenDecoder make_decoder() const {
        std::vector<SpelledToken> tokens(vocabulary_);
        for (int id = 0; id < processor_.GetPieceSize(); ++id)
            tokens[id] = {processor_.IdToPiece(id), processor_.IsControl(id) || processor_.IsUnknown(id)};
        for (const AddedToken& token : added_.all())
            if (token.id != kNoId) tokens[token.id] = {token.content, token.special};
        Json decoder = Json::parse(R"({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]})");
        if (prefix_first_)
            decoder["decoders"].push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
        return {decoder, std::move(tokens), path_};
    }

    void read_config() {
        const std::string folder = folder_of(path_), json_path = folder + "/tokenizer.json";
        config_ = read_tokenizer_config(folder);
        // A space goes before a text, and before a part behind an added token only as transformers once did ("legacy").
        prefix_first_ = config_.add_prefix_space.value_or(true);
        prefix_later_ = prefix_first_ && config_.legacy.value_or(false);
        std::vector<AddedToken> own;
        std::optional<TextFrame> frame;
        if (file_exists(json_path)) {
            const Json json = read_json_file(json_path);
            require(json.is_object(), json_path, " is not a tokenizer.json");
            own = read_added_tokens(json, json_path);
            frame = frame_of_post_processor(json.value("post_processor", Json()), json_path);
            check_vocabulary(json, json_path);
        }
        vocabulary_ = processor_.GetPieceSize();
        if (file_exists(folder + "/tokenizer_config.json")) add_control_pieces();
        added_ = AddedTokens(all_added_tokens(
            std::move(own), config_, {vocabulary_, [this](const std::string& token) { return id_of(token); }, true}));
        for (const AddedToken& token : added_.all()) vocabulary_ = std::max<std::int64_t>(vocabulary_, token.id + 1);
        decoder_ = make_decoder();
        const auto special = [&](const std::optional<std::string>& named, std::int32_t own_id) {
            if (!named) return own_id;
            const AddedToken* token = added_.find(*named);
            return token ? token->id : kNoId;
        };
        bos_ = special(config_.bos, processor_.bos_id()), eos_ = special(config_.eos, processor_.eos_id());
        frame_ =
            file_exists(json_path) ? frame_of_tokenizer_json(config_, frame) : frame_of_config(config_, bos_, eos_);
        check_frame(frame_, vocabulary_, json_path);
    }

    std::string path_, hash_;
    sentencepiece::SentencePieceProcessor processor_, bare_;  // bare_ puts no space before a text; loaded if needed
    TokenizerConfig config_;
    AddedTokens added_;
    TokenDecoder decoder_;
    bool prefix_first_ = true, prefix_later_ = false;
    std::int64_t vocabulary_ = 0;
    std::int32_t bos_ = kNoId, eos_ = kNoId;
    TextFrame frame_;
};

}  // namespace

std::unique_ptr<Tokenizer> open_sentencepiece(const std::string& path) {
    return std::make_unique<SentencePieceTokenizer>(path);
}

}  // namespace longlora
