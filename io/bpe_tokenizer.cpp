// The tokenizer.json of Hugging Face with BPE: of bytes (Llama 3, SmolLM2, Qwen 2 and 3), or of characters with bytes
// for unknown ones (Llama 2 and Mistral, converted from SentencePiece). Added tokens are cut out of a text, what is
// between them is normalized and cut into words, and the parts of each word are merged. io/tokenizer_fields.h lists all
// fields of the file; what is not supported is an Error that names it.
#include <algorithm>

#include "core/error.h"
#include "io/added_tokens.h"
#include "io/bpe_model.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"
#include "io/normalizer.h"
#include "io/pre_tokenizer.h"
#include "io/tokenizer.h"
#include "io/tokenizer_class.h"
#include "io/tokenizer_config.h"
#include "io/tokenizer_fields.h"

namespace longlora {

namespace {

/// Beside an added_tokens_decoder, classes with parts of their own do not read the "added_tokens" of tokenizer.json.
void check_config_has(const std::vector<AddedToken>& own, const TokenizerConfig& config, const std::string& name) {
    for (const AddedToken& token : own) {
        const auto same = [&](const AddedToken& other) { return other.content == token.content; };
        require(std::any_of(config.added.begin(), config.added.end(), same) ||
                    std::any_of(config.named.begin(), config.named.end(), same),
                token.where, " has the added token ", token.content, ", which added_tokens_decoder of ",
                "tokenizer_config.json has not, so that transformers 5 ignores it for the tokenizer_class ", name,
                "; add it there, or remove it here");
    }
}

/// The object of a tokenizer.json, with known fields only.
Json parse_tokenizer(const std::string& content, const std::string& path) {
    Json json = parse_json(content, path);
    require(json.is_object() && json.contains("model"), path, " is not a tokenizer.json: it has no \"model\"");
    check_fields(json, "the file", path);
    return json;
}

class BpeTokenizer : public Tokenizer {
public:
    BpeTokenizer(const std::string& path, const std::string& hash, const std::string& name_of_class,
                 const TokenizerConfig& config, const Json& json, const std::string& note)
        : path_(path),
          hash_(hash),
          note_(note),
          pre_tokenizer_(json.value("pre_tokenizer", Json()), path),
          model_(json["model"], path, pre_tokenizer_.is_byte_level()) {
        read_config(name_of_class, config, json);
    }

    std::vector<std::int32_t> encode(std::string_view text) const override;
    const TokenDecoder& decoder() const override { return decoder_; }
    std::int64_t vocabulary() const override { return vocabulary_; }
    std::int32_t bos() const override { return bos_; }
    std::int32_t eos() const override { return eos_; }
    const TextFrame& frame() const override { return frame_; }
    std::string kind() const override { return pre_tokenizer_.is_byte_level() ? "byte-bpe" : "bpe"; }
    std::string hash() const override { return hash_; }
    std::string key() const override { return key_of(*this, added_, settings_); }
    std::vector<std::string> notes() const override {
        return note_.empty() ? std::vector<std::string>() : std::vector<std::string>{note_};
    }

private:
    void read_config(const std::string& name_of_class, const TokenizerConfig& config, const Json& json);
    TokenDecoder make_decoder(const Json& json, const Normalizer& normalizer) const;

    std::string path_, hash_, note_, settings_;
    PreTokenizer pre_tokenizer_;
    BpeModel model_;
    AddedTokens added_;
    TokenDecoder decoder_;
    std::int64_t vocabulary_ = 0;
    std::int32_t bos_ = kNoId, eos_ = kNoId;
    TextFrame frame_;
};

/// Added tokens, and the ids around a text. tokenizer.json does not say which tokens are bos and eos: the files beside
/// it name them, or else config.json has their ids.
void BpeTokenizer::read_config(const std::string& name_of_class, const TokenizerConfig& config, const Json& json) {
    if (!name_of_class.empty()) settings_ = text(name_of_class, to_line(json["pre_tokenizer"]));
    const std::optional<bool> prefix_space = pre_tokenizer_.add_prefix_space();
    require(!config.add_prefix_space || !prefix_space || *prefix_space == *config.add_prefix_space, path_,
            " and tokenizer_config.json disagree about \"add_prefix_space\"; correct one of them");
    const ModelVocabulary vocabulary{model_.size(), [this](const std::string& token) { return model_.id_of(token); }};
    const std::vector<AddedToken> own = read_added_tokens(json, path_);
    if (!name_of_class.empty() && config.added_have_flags) check_config_has(own, config, name_of_class);
    const Normalizer normalizer(json.value("normalizer", Json()), path_);
    added_ = AddedTokens(all_added_tokens(own, config, vocabulary), normalizer);
    vocabulary_ = static_cast<std::int64_t>(model_.spelled().size());
    for (const AddedToken& token : added_.all()) vocabulary_ = std::max<std::int64_t>(vocabulary_, token.id + 1);
    decoder_ = make_decoder(json.value("decoder", Json()), normalizer);
    const auto special = [&](const std::optional<std::string>& named, std::int64_t from_config) {
        if (!named) return static_cast<std::int32_t>(from_config < vocabulary_ ? from_config : kNoId);
        const AddedToken* token = added_.find(*named);
        return token ? token->id : kNoId;
    };
    bos_ = special(config.bos, config.config_bos), eos_ = special(config.eos, config.config_eos);
    frame_ = frame_of_tokenizer_json(config, frame_of_post_processor(json.value("post_processor", Json()), path_));
    check_frame(frame_, vocabulary_, path_);
}

/// `tokenizers` spells an added token that is normalized as it looks for it.
TokenDecoder BpeTokenizer::make_decoder(const Json& json, const Normalizer& normalizer) const {
    std::vector<SpelledToken> tokens(vocabulary_);
    for (std::size_t id = 0; id < model_.spelled().size(); ++id) tokens[id].spelled = model_.spelled()[id];
    for (const AddedToken& token : added_.all())
        if (token.id != kNoId)
            tokens[token.id] = {token.normalized ? normalizer.apply(token.content) : token.content, token.special};
    return {json, std::move(tokens), path_};
}

std::vector<std::int32_t> BpeTokenizer::encode(std::string_view content) const {
    std::vector<std::int32_t> out;
    std::deque<std::string> changed;                                        // texts that words point into
    std::unordered_map<std::string_view, std::vector<std::int32_t>> known;  // the words of this text
    std::vector<std::string_view> parts;
    for (const TextPiece& piece : added_.split(content, changed)) {
        if (piece.id != kNoId) {
            out.push_back(piece.id);
            continue;
        }
        parts.clear();
        for (const std::string_view word : pre_tokenizer_.words_of(piece.text, piece.first, changed))
            model_.cut(word, parts);
        for (const std::string_view part : parts) {
            const auto [found, fresh] = known.try_emplace(part);
            if (fresh) found->second = model_.encode(part);
            out.insert(out.end(), found->second.begin(), found->second.end());
        }
    }
    return out;
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer_json(const std::string& path) {
    try {
        const std::string content = read_text_file(path);
        Json json = parse_tokenizer(content, path);
        const std::string folder = folder_of(path), name = read_tokenizer_class(folder, json);
        const TokenizerConfig config = read_tokenizer_config(folder, names_of_class(name));
        const std::string note = take_parts_of_class(name, config, json, path);
        return std::make_unique<BpeTokenizer>(path, sha256_of(content), name, config, json, note);
    } catch (const Json::exception& problem) {  // json.value(): a value has an unexpected type
        fail(text(path, " is not a usable tokenizer.json: ", problem.what()));
    }
}

}  // namespace longlora
