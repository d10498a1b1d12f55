// The tokenizer.model of Llama 1 and 2, read by the SentencePiece library. Tokens that files beside it add are cut out
// first, as transformers does; the text before and behind them is encoded part by part. A tokenizer.json beside it is
// not read here: for a folder that has both, io/tokenizer.cpp opens that one.
#include <sentencepiece_processor.h>

#include "core/error.h"
#include "io/added_tokens.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/tokenizer.h"
#include "io/tokenizer_class.h"
#include "io/tokenizer_config.h"

namespace longlora {

namespace {

/// A second normalizer_spec with add_dummy_prefix = false, as bytes of a model: a parser merges it into the first.
constexpr std::string_view kNoPrefix("\x1a\x02\x18\x00", 4);
constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581, as SentencePiece writes a space

bool load(sentencepiece::SentencePieceProcessor& processor, const std::string& content) {
    try {
        return processor.LoadFromSerializedProto(content).ok() && processor.GetPieceSize() > 0;
    } catch (const std::exception&) {  // a damaged length may let protobuf run out of memory
        return false;
    }
}

std::int32_t id_of(const sentencepiece::SentencePieceProcessor& processor, const std::string& piece) {
    const int id = processor.PieceToId(piece);
    return id >= 0 && processor.IdToPiece(id) == piece ? id : kNoId;
}

class SentencePieceTokenizer : public Tokenizer {
public:
    explicit SentencePieceTokenizer(const std::string& path) : path_(path) {
        const std::string content = read_text_file(path);
        hash_ = sha256_of(content);
        require(!content.empty() && load(processor_, content), path, " is not a SentencePiece model");
        read_config();
        if (!prefix_first_ || space_counts_ || (!prefix_later_ && !added_.all().empty()))
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
            const bool prefix = (piece.first ? prefix_first_ : prefix_later_) &&
                                !(space_counts_ && (piece.text.starts_with(" ") || piece.text.starts_with(kSpace)));
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
    std::string key() const override {
        return key_of(*this, added_, text(prefix_first_, prefix_later_, space_counts_));
    }
    std::vector<std::string> notes() const override {
        if (legacy_said_ || vocabulary_ == processor_.GetPieceSize()) return {};
        return {
            "\"legacy\" is not set: no space goes behind added tokens, as in transformers 5; transformers 4 puts one"};
    }

private:
    /// To transformers, which reads the files beside tokenizer.model, "<s>" and "<unk>" are tokens in texts too.
    void add_special_pieces() {
        for (int id = 0; id < processor_.GetPieceSize(); ++id) {
            if (!processor_.IsControl(id) && !processor_.IsUnknown(id)) continue;
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

    /// A space goes before a text, and before the parts behind added tokens too if transformers does what it once did
    /// ("legacy"). LlamaTokenizer of transformers 5 puts none where a space is; without a class it does what
    /// SentencePiece does.
    void read_spaces(const std::string& name_of_class) {
        const bool llama = !name_of_class.empty(), legacy = config_.legacy.value_or(!llama);
        require(llama || config_.add_prefix_space.value_or(true), "tokenizer_config.json beside ", path_,
                ": \"add_prefix_space\" is false, which transformers ignores without the \"tokenizer_class\" ",
                "LlamaTokenizer; correct one of them");
        prefix_first_ = config_.add_prefix_space.value_or(true);
        prefix_later_ = prefix_first_ && legacy && name_of_class != "CodeLlamaTokenizer";
        space_counts_ = llama || !legacy;
        legacy_said_ = !llama || config_.legacy;
    }

    void read_config() {
        const std::string folder = folder_of(path_), name = read_tokenizer_class(folder, Json());
        require(name.empty() || name.ends_with("LlamaTokenizer"), path_, " is not of the \"tokenizer_class\" ", name,
                " that the files beside it name; correct it, or tokenize with another program");
        config_ = read_tokenizer_config(folder, names_of_class(name));
        const auto beside = [&](const char* file) { return file_exists(folder + "/" + file); };
        const bool alone =
            !beside("tokenizer_config.json") && !beside("special_tokens_map.json") && !beside("added_tokens.json");
        read_spaces(name);
        vocabulary_ = processor_.GetPieceSize();
        if (!alone) add_special_pieces();
        space_counts_ = space_counts_ && !alone;
        added_ = AddedTokens(all_added_tokens(
            {}, config_, {vocabulary_, [this](const std::string& token) { return id_of(processor_, token); }, true}));
        for (const AddedToken& token : added_.all()) vocabulary_ = std::max<std::int64_t>(vocabulary_, token.id + 1);
        decoder_ = make_decoder();
        const auto special = [&](const std::optional<std::string>& named, std::int32_t own_id) {
            if (!named) return own_id;
            const AddedToken* token = added_.find(*named);
            return token ? token->id : kNoId;
        };
        bos_ = special(config_.bos, processor_.bos_id()), eos_ = special(config_.eos, processor_.eos_id());
        frame_ = frame_of_config(config_, bos_, eos_);
        check_frame(frame_, vocabulary_, path_);
    }

    std::string path_, hash_;
    sentencepiece::SentencePieceProcessor processor_, bare_;  // bare_ puts no space before a text; loaded if needed
    TokenizerConfig config_;
    AddedTokens added_;
    TokenDecoder decoder_;
    bool prefix_first_ = true, prefix_later_ = false;
    bool space_counts_ = false;  // a space in front of a text stands for the one that would go there
    bool legacy_said_ = true;
    std::int64_t vocabulary_ = 0;
    std::int32_t bos_ = kNoId, eos_ = kNoId;
    TextFrame frame_;
};

}  // namespace

void check_same_vocabulary(const std::string& model_path, const std::string& json_path) {
    sentencepiece::SentencePieceProcessor processor;
    if (!load(processor, read_text_file(model_path))) return;  // tiktoken's files have the same name
    const Json json = read_json_file(json_path);
    for (const auto& [token, id] : member(member(json, "model", json_path), "vocab", json_path).items())
        require(id == id_of(processor, token), json_path, " and ", model_path, " disagree about the token ", token,
                "; remove the one that is not the model's");
}

std::unique_ptr<Tokenizer> open_sentencepiece(const std::string& path) {
    return std::make_unique<SentencePieceTokenizer>(path);
}

}  // namespace longlora
