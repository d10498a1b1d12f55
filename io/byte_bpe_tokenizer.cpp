// Byte-level BPE as a Hugging Face tokenizer.json describes it (Llama 3, SmolLM2, GPT-2). The tokenizer first cuts the
// added tokens out of the text. Its pre-tokenizer then cuts the rest into words, and the bytes of each word are merged
// (io/byte_bpe.h). io/tokenizer_fields.h lists all fields of the file; what is not supported is an Error that names it.
#include <array>

#include "core/error.h"
#include "io/added_tokens.h"
#include "io/byte_bpe.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"
#include "io/regex_dialect.h"
#include "io/regex_split.h"
#include "io/tokenizer.h"
#include "io/tokenizer_config.h"
#include "io/tokenizer_fields.h"
#include "io/utf8.h"

namespace longlora {

namespace {

/// GPT-2's pattern. A ByteLevel pre-tokenizer with use_regex cuts by it.
constexpr const char* kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// For each byte, the printable character in UTF-8 that stands for it in the vocabulary (GPT-2's table).
std::array<std::string, 256> byte_characters() {
    std::array<std::string, 256> characters;
    std::uint32_t next = 256;
    for (std::uint32_t b = 0; b < 256; ++b) {
        const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        characters[b] = utf8_of(printable ? b : next++);
    }
    return characters;
}

struct Step {
    bool prefix_space;
    RegexSplit split;
};

class ByteBpeTokenizer : public Tokenizer {
public:
    explicit ByteBpeTokenizer(const std::string& path) : path_(path) {
        const std::string content = read_text_file(path);
        hash_ = sha256_of(content);
        const Json json = parse_json(content, path);
        require(json.is_object() && json.contains("model"), path, " is not a tokenizer.json: it has no \"model\"");
        read_vocabulary(json["model"]);
        check_fields(json, "the file", path);
        const Json pre_tokenizer = json.value("pre_tokenizer", Json());
        read_pre_tokenizer(pre_tokenizer);
        require(byte_level_, path, " is not a byte-level tokenizer; give the model's tokenizer.model, if it has one");
        read_config(json, pre_tokenizer);
    }

    std::vector<std::int32_t> encode(std::string_view text) const override;
    std::string decode(const std::vector<std::int32_t>& ids) const override;
    std::int64_t vocabulary() const override { return pieces_.size(); }
    std::int32_t bos() const override { return bos_; }
    std::int32_t eos() const override { return eos_; }
    const TextFrame& frame() const override { return frame_; }
    std::string name_of(std::int32_t id) const override { return decode({id}); }
    std::string kind() const override { return "byte-bpe"; }
    std::string hash() const override { return hash_; }
    std::string key() const override { return key_of(*this, added_); }

private:
    using Words = std::unordered_map<std::string_view, std::vector<std::int32_t>>;

    void read_vocabulary(const Json& model);
    void read_merges(const Json& merges);
    void read_pre_tokenizer(const Json& json);
    void read_config(const Json& json, const Json& pre_tokenizer);
    std::int32_t id_of(const std::string& token) const;
    void put_piece(std::int32_t id, std::string bytes);
    void encode_segment(std::vector<std::int32_t>& out, std::string_view text, Words& known) const;
    std::vector<std::int32_t> encode_word(std::string_view word) const;

    std::string path_, hash_;
    std::vector<std::string> pieces_;                         // the bytes of every id
    std::unordered_map<std::string, std::int32_t> ids_;       // the vocabulary of the model, as the file spells it
    std::unordered_map<std::string, std::int32_t> by_bytes_;  // those of its tokens that stand for bytes
    std::array<std::int32_t, 256> byte_id_{};                 // kNoId: the vocabulary does not have that byte
    MergeTable merges_;
    bool ignore_merges_ = false, fuse_unknown_ = false, byte_level_ = false;
    std::string unknown_token_;
    bool has_unknown_token_ = false;
    AddedTokens added_;
    std::vector<Step> steps_;
    std::int32_t bos_ = kNoId, eos_ = kNoId;
    TextFrame frame_;
};

void ByteBpeTokenizer::put_piece(std::int32_t id, std::string bytes) {
    if (static_cast<std::size_t>(id) >= pieces_.size()) pieces_.resize(static_cast<std::size_t>(id) + 1);
    pieces_[id] = std::move(bytes);
}

void ByteBpeTokenizer::read_vocabulary(const Json& model) {
    const std::string type = model.is_object() && model.contains("type") && model["type"].is_string()
                                 ? model["type"].get<std::string>()
                                 : "BPE";
    require(type == "BPE", path_, " is a ", type,
            " tokenizer; only byte-level BPE is supported; tokenize with another program and prepare the token ids");
    require(!model.value("byte_fallback", false), path_,
            " describes a SentencePiece tokenizer; give the model's tokenizer.model instead");
    check_fields(model, "model", path_);
    ignore_merges_ = model.value("ignore_merges", false);
    fuse_unknown_ = model.value("fuse_unk", false);
    has_unknown_token_ = model.contains("unk_token") && !model["unk_token"].is_null();
    if (has_unknown_token_) unknown_token_ = get_text(model, "unk_token", path_);
    const auto characters = byte_characters();
    std::unordered_map<std::string, int> byte_of;
    for (int b = 0; b < 256; ++b) byte_of[characters[b]] = b;
    const Json& vocabulary = member(model, "vocab", path_);
    require(vocabulary.is_object() && !vocabulary.empty(), path_, ": \"vocab\" is not an object of tokens");
    for (const auto& [token, value] : vocabulary.items()) {
        require(value.is_number_unsigned() && value.get<std::uint64_t>() < (1u << 28), path_, ": the id of \"", token,
                "\" is not valid");
        const auto id = value.get<std::int32_t>();
        ids_[token] = id;
        // The bytes of the token. A token with characters outside of the table stands for itself; no word has it.
        std::string bytes;
        bool of_bytes = true;
        for (std::size_t at = 0; at < token.size();) {
            const std::size_t n = static_cast<unsigned char>(token[at]) < 0x80   ? 1
                                  : static_cast<unsigned char>(token[at]) < 0xe0 ? 2
                                                                                 : 3;
            const auto found = byte_of.find(token.substr(at, n));
            if (found == byte_of.end()) {
                bytes = token, of_bytes = false;
                break;
            }
            bytes += static_cast<char>(found->second);
            at += n;
        }
        if (of_bytes) by_bytes_[bytes] = id;
        put_piece(id, std::move(bytes));
    }
    for (std::size_t b = 0; b < 256; ++b) byte_id_[b] = id_of(characters[b]);
    read_merges(member(model, "merges", path_));
}

/// A merge is ["a", "b"], or in older files "a b". Of equal merges the last one counts.
void ByteBpeTokenizer::read_merges(const Json& merges) {
    require(merges.is_array(), path_, ": \"merges\" is not a list");
    std::int32_t rank = 0;
    for (const Json& merge : merges) {
        std::string left, right;
        if (merge.is_string()) {
            const std::string both = merge.get<std::string>();
            if (both.starts_with("#version")) continue;
            const std::size_t space = both.find(' ');
            require(space != std::string::npos && both.find(' ', space + 1) == std::string::npos, path_,
                    ": the merge \"", both, "\" is not two tokens");
            left = both.substr(0, space), right = both.substr(space + 1);
        } else {
            require(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(), path_,
                    ": merge ", rank, " is not two tokens");
            left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
        }
        const std::int32_t a = id_of(left), b = id_of(right), both = id_of(left + right);
        require(a != kNoId && b != kNoId && both != kNoId && !left.empty() && !right.empty(), path_, ": the merge \"",
                left, "\" + \"", right, "\" is not made of tokens of the vocabulary");
        merges_.insert_or_assign(merge_key(a, b), Merge{rank++, both});
    }
}

void ByteBpeTokenizer::read_pre_tokenizer(const Json& json) {
    if (json.is_null()) return;
    const std::string type = get_text(json, "type", path_ + ", pre_tokenizer");
    check_fields(json, "pre-tokenizer " + type, path_);
    require(!byte_level_, path_, ": the pre-tokenizer ", type, " stands behind ByteLevel; that is not supported; ",
            "tokenize with another program and prepare the token ids");
    if (type == "Sequence") {
        const Json& parts = member(json, "pretokenizers", path_);
        require(parts.is_array(), path_, ": \"pretokenizers\" is not a list");
        for (const Json& part : parts) read_pre_tokenizer(part);
    } else if (type == "Digits") {
        const bool single = member(json, "individual_digits", path_).get<bool>();
        steps_.push_back({false, RegexSplit(single ? R"(\p{N})" : R"(\p{N}+)", path_)});
    } else if (type == "Split") {
        for (const char* key : {"behavior", "invert"}) member(json, key, path_);
        const Json& pattern = member(json, "pattern", path_);
        check_fields(pattern, "pattern of Split", path_);
        require(pattern.size() == 1, path_, ": the pattern of a Split is not one String or Regex");
        const bool regex = pattern.contains("Regex");
        const std::string given = get_text(pattern, regex ? "Regex" : "String", path_);
        steps_.push_back({false, RegexSplit(regex ? pcre_of_oniguruma(given, path_) : pcre_of_text(given), path_)});
    } else {
        byte_level_ = true;
        const bool regex = json.value("use_regex", true), space = member(json, "add_prefix_space", path_).get<bool>();
        steps_.push_back({space, RegexSplit(regex ? pcre_of_oniguruma(kGpt2Pattern, path_) : R"((?s).+)", path_)});
    }
}

std::int32_t ByteBpeTokenizer::id_of(const std::string& token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? kNoId : found->second;
}

/// Added tokens, and the ids around a text. tokenizer.json does not say which tokens are bos and eos: the files beside
/// it name them, or else config.json has their ids.
void ByteBpeTokenizer::read_config(const Json& json, const Json& pre_tokenizer) {
    const TokenizerConfig config = read_tokenizer_config(folder_of(path_));
    const Json& prefix_space = pre_tokenizer.value("add_prefix_space", Json());
    require(!config.add_prefix_space || !prefix_space.is_boolean() || prefix_space == *config.add_prefix_space, path_,
            " and tokenizer_config.json disagree about \"add_prefix_space\"; correct one of them");
    const auto count = static_cast<std::int64_t>(ids_.size());
    added_ = AddedTokens(all_added_tokens(read_added_tokens(json, path_), config,
                                          {count, [this](const std::string& token) { return id_of(token); }}));
    for (const AddedToken& token : added_.all())
        if (token.id != kNoId) put_piece(token.id, token.content);
    const auto special = [&](const std::optional<std::string>& named, std::int64_t from_config) {
        if (!named) return static_cast<std::int32_t>(from_config < vocabulary() ? from_config : kNoId);
        const AddedToken* token = added_.find(*named);
        return token ? token->id : kNoId;
    };
    bos_ = special(config.bos, config.config_bos), eos_ = special(config.eos, config.config_eos);
    frame_ = frame_of_tokenizer_json(config, frame_of_post_processor(json.value("post_processor", Json()), path_));
    check_frame(frame_, vocabulary(), path_);
}

/// Bytes that the vocabulary lacks become the unknown token, or nothing if there is none.
std::vector<std::int32_t> ByteBpeTokenizer::encode_word(std::string_view word) const {
    if (ignore_merges_) {
        const auto found = by_bytes_.find(std::string(word));
        if (found != by_bytes_.end()) return {found->second};
    }
    std::vector<std::int32_t> ids;
    bool unknown_before = false;
    for (char c : word) {
        const std::int32_t id = byte_id_[static_cast<unsigned char>(c)];
        const bool unknown = id == kNoId && has_unknown_token_;
        if (unknown && !(unknown_before && fuse_unknown_)) {
            ids.push_back(id_of(unknown_token_));
            require(ids.back() != kNoId, "it has the byte ", static_cast<int>(static_cast<unsigned char>(c)), ", and ",
                    path_, " has neither this byte nor its unk_token \"", unknown_token_, "\"");
        }
        if (id != kNoId) ids.push_back(id);
        unknown_before = unknown;
    }
    merge_pairs(ids, merges_);
    return ids;
}

void ByteBpeTokenizer::encode_segment(std::vector<std::int32_t>& out, std::string_view segment, Words& known) const {
    std::vector<std::string_view> words{segment}, next;
    std::vector<std::unique_ptr<std::string>> prefixed;  // owns the words that got a space in front
    for (const Step& step : steps_) {
        next.clear();
        for (std::string_view word : words) {
            if (step.prefix_space && word[0] != ' ') {
                prefixed.push_back(std::make_unique<std::string>(" " + std::string(word)));
                word = *prefixed.back();
            }
            step.split.append_pieces(next, word);
        }
        words.swap(next);
    }
    for (std::string_view word : words) {
        if (!prefixed.empty()) {  // `known` must not keep views of these words, which end with this call
            const auto ids = encode_word(word);
            out.insert(out.end(), ids.begin(), ids.end());
            continue;
        }
        auto [found, fresh] = known.try_emplace(word);
        if (fresh) found->second = encode_word(word);
        out.insert(out.end(), found->second.begin(), found->second.end());
    }
}

std::vector<std::int32_t> ByteBpeTokenizer::encode(std::string_view content) const {
    std::vector<std::int32_t> out;
    Words known;  // words of this text
    for (const TextPiece& piece : added_.split(content)) {
        if (piece.id == kNoId) encode_segment(out, piece.text, known);
        else out.push_back(piece.id);
    }
    return out;
}

std::string ByteBpeTokenizer::decode(const std::vector<std::int32_t>& ids) const {
    std::string bytes;
    for (std::int32_t id : ids) {
        require(id >= 0 && id < vocabulary(), "the id ", id, " is beyond the vocabulary of ", path_);
        bytes += pieces_[id];
    }
    return bytes;
}

}  // namespace

std::unique_ptr<Tokenizer> open_byte_bpe(const std::string& path) {
    try {
        return std::make_unique<ByteBpeTokenizer>(path);
    } catch (const Json::exception& problem) {  // json.value(): a value has an unexpected type
        fail(text(path, " is not a usable tokenizer.json: ", problem.what()));
    }
}

}  // namespace longlora
