// Byte-level BPE as a Hugging Face tokenizer.json describes it (Llama 3, SmolLM2, GPT-2). The tokenizer first cuts the
// added tokens out of the text. Its pre-tokenizer then cuts the rest into words, and the bytes of each word are merged
// (io/byte_bpe.h). A setting of the file that is not supported is an Error that names the setting.
#include <algorithm>
#include <array>

#include "core/error.h"
#include "io/byte_bpe.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"
#include "io/regex_split.h"
#include "io/tokenizer.h"
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

struct AddedToken {
    std::string content;
    std::int32_t id;
};

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
        require(!json.contains("normalizer") || json["normalizer"].is_null(), path,
                " has a normalizer, which is not supported; tokenize with another program and prepare the token ids");
        read_vocabulary(json["model"]);
        read_added_tokens(json);
        read_pre_tokenizer(json.contains("pre_tokenizer") ? json["pre_tokenizer"] : Json());
        require(byte_level_, path, " is not a byte-level tokenizer; give the model's tokenizer.model, if it has one");
        read_specials();
    }

    std::vector<std::int32_t> encode(std::string_view text) const override;
    std::string decode(const std::vector<std::int32_t>& ids) const override;
    std::int64_t vocabulary() const override { return pieces_.size(); }
    std::int32_t bos() const override { return bos_; }
    std::int32_t eos() const override { return eos_; }
    std::string kind() const override { return "byte-bpe"; }
    std::string hash() const override { return hash_; }

private:
    void read_vocabulary(const Json& model);
    void read_merges(const Json& merges, const std::unordered_map<std::string, std::int32_t>& ids);
    void read_added_tokens(const Json& json);
    void read_pre_tokenizer(const Json& json);
    void read_specials();
    std::int32_t special(const Json& json, const char* key) const;
    void put_piece(std::int32_t id, std::string bytes);
    void encode_segment(std::vector<std::int32_t>& out, std::string_view text,
                        std::unordered_map<std::string_view, std::vector<std::int32_t>>& known) const;
    std::vector<std::int32_t> encode_word(std::string_view word) const;

    std::string path_, hash_;
    std::vector<std::string> pieces_;                         // the bytes of every id
    std::unordered_map<std::string, std::int32_t> by_bytes_;  // ids of the BPE vocabulary, for ignore_merges
    std::array<std::int32_t, 256> byte_id_{};                 // -1: the vocabulary does not have that byte
    MergeTable merges_;
    bool ignore_merges_ = false, byte_level_ = false;
    std::vector<AddedToken> added_;  // longest first
    std::array<bool, 256> added_begins_{};
    std::vector<Step> steps_;
    std::int32_t bos_ = -1, eos_ = -1;
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
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
        require(!model.contains(key) || model[key].is_null() || model[key] == "", path_, ": \"", key,
                "\" is not supported");
    ignore_merges_ = model.value("ignore_merges", false);
    const auto characters = byte_characters();
    std::unordered_map<std::string, int> byte_of;
    for (int b = 0; b < 256; ++b) byte_of[characters[b]] = b;
    std::unordered_map<std::string, std::int32_t> ids;
    const Json& vocabulary = member(model, "vocab", path_);
    require(vocabulary.is_object() && !vocabulary.empty(), path_, ": \"vocab\" is not an object of tokens");
    for (const auto& [token, value] : vocabulary.items()) {
        require(value.is_number_unsigned() && value.get<std::uint64_t>() < (1u << 28), path_, ": the id of \"", token,
                "\" is not valid");
        const auto id = value.get<std::int32_t>();
        ids[token] = id;
        // The bytes of the token. A token with characters outside of the table (an added token) is its own text.
        std::string bytes;
        for (std::size_t at = 0; at < token.size();) {
            const std::size_t n = static_cast<unsigned char>(token[at]) < 0x80   ? 1
                                  : static_cast<unsigned char>(token[at]) < 0xe0 ? 2
                                                                                 : 3;
            const auto found = byte_of.find(token.substr(at, n));
            if (found == byte_of.end()) {
                bytes = token;
                break;
            }
            bytes += static_cast<char>(found->second);
            at += n;
        }
        by_bytes_[bytes] = id;
        put_piece(id, std::move(bytes));
    }
    for (std::size_t b = 0; b < 256; ++b) {
        const auto found = ids.find(characters[b]);
        byte_id_[b] = found == ids.end() ? -1 : found->second;
    }
    read_merges(member(model, "merges", path_), ids);
}

void ByteBpeTokenizer::read_merges(const Json& merges, const std::unordered_map<std::string, std::int32_t>& ids) {
    require(merges.is_array(), path_, ": \"merges\" is not a list");
    std::int32_t rank = 0;
    for (const Json& merge : merges) {
        std::string left, right;
        if (merge.is_string()) {
            const std::string both = merge.get<std::string>();
            const std::size_t space = both.find(' ');
            require(space != std::string::npos, path_, ": the merge \"", both, "\" is not two tokens");
            left = both.substr(0, space), right = both.substr(space + 1);
        } else {
            require(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(), path_,
                    ": merge ", rank, " is not two tokens");
            left = merge[0].get<std::string>(), right = merge[1].get<std::string>();
        }
        const auto a = ids.find(left), b = ids.find(right), both = ids.find(left + right);
        require(a != ids.end() && b != ids.end() && both != ids.end(), path_, ": the merge \"", left, "\" + \"", right,
                "\" is not made of tokens of the vocabulary");
        merges_.emplace(merge_key(a->second, b->second), Merge{rank++, both->second});
    }
}

void ByteBpeTokenizer::read_added_tokens(const Json& json) {
    if (!json.contains("added_tokens")) return;
    require(json["added_tokens"].is_array(), path_, ": \"added_tokens\" is not a list");
    for (const Json& token : json["added_tokens"]) {
        AddedToken added{get_text(token, "content", path_), 0};
        const std::int64_t id = get_integer(token, "id", path_);
        require(id >= 0 && id < (1 << 28) && !added.content.empty(), path_, ": the added token \"", added.content,
                "\" is not valid");
        added.id = static_cast<std::int32_t>(id);
        for (const char* key : {"lstrip", "rstrip", "single_word"})
            require(!token.contains(key) || token[key] == false, path_, ": \"", key, "\" of the added token ",
                    added.content, " is not supported");
        put_piece(added.id, added.content);
        added_begins_[static_cast<unsigned char>(added.content[0])] = true;
        added_.push_back(std::move(added));
    }
    std::stable_sort(added_.begin(), added_.end(),
                     [](const auto& a, const auto& b) { return a.content.size() > b.content.size(); });
}

void ByteBpeTokenizer::read_pre_tokenizer(const Json& json) {
    if (json.is_null()) return;
    const std::string type = get_text(json, "type", path_ + ", pre_tokenizer");
    if (type == "Sequence") {
        const Json& parts = member(json, "pretokenizers", path_);
        require(parts.is_array(), path_, ": \"pretokenizers\" is not a list");
        for (const Json& part : parts) read_pre_tokenizer(part);
    } else if (type == "Digits") {
        steps_.push_back({false, RegexSplit(json.value("individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)", path_)});
    } else if (type == "Split") {
        require(json.value("behavior", "") == "Isolated" && !json.value("invert", false), path_,
                ": a Split that is not Isolated is not supported");
        const Json& pattern = member(json, "pattern", path_);
        const bool regex = pattern.is_object() && pattern.contains("Regex");
        const std::string given = get_text(pattern, regex ? "Regex" : "String", path_);
        steps_.push_back({false, RegexSplit(regex ? given : "\\Q" + given + "\\E", path_)});
    } else if (type == "ByteLevel") {
        byte_level_ = true;
        const bool regex = json.value("use_regex", true);
        steps_.push_back({json.value("add_prefix_space", true), RegexSplit(regex ? kGpt2Pattern : R"((?s).+)", path_)});
    } else {
        fail(text(path_, ": the pre-tokenizer ", type,
                  " is not supported; tokenize with another program and prepare the token ids"));
    }
}

std::int32_t ByteBpeTokenizer::special(const Json& json, const char* key) const {
    if (!json.is_object() || !json.contains(key)) return -1;
    const Json& value = json[key];
    const Json& content = value.is_object() && value.contains("content") ? value["content"] : value;
    if (!content.is_string()) return -1;
    for (const AddedToken& added : added_)
        if (added.content == content.get<std::string>()) return added.id;
    const auto found = by_bytes_.find(content.get<std::string>());
    return found == by_bytes_.end() ? -1 : found->second;
}

/// tokenizer.json does not say which tokens are bos and eos: tokenizer_config.json beside it names them by their
/// texts, or else config.json by their ids.
void ByteBpeTokenizer::read_specials() {
    const std::string folder = folder_of(path_);
    if (file_exists(folder + "/tokenizer_config.json")) {
        const Json json = read_json_file(folder + "/tokenizer_config.json");
        bos_ = special(json, "bos_token");
        eos_ = special(json, "eos_token");
    }
    if (!file_exists(folder + "/config.json")) return;
    const Json json = read_json_file(folder + "/config.json");
    for (const auto& [key, id] : {std::pair{"bos_token_id", &bos_}, std::pair{"eos_token_id", &eos_}}) {
        if (*id >= 0 || !json.is_object() || !json.contains(key)) continue;
        const Json& value = json[key].is_array() && !json[key].empty() ? json[key][0] : json[key];
        if (value.is_number_unsigned() && value.get<std::uint64_t>() < pieces_.size()) *id = value.get<std::int32_t>();
    }
}

std::vector<std::int32_t> ByteBpeTokenizer::encode_word(std::string_view word) const {
    if (ignore_merges_) {
        const auto found = by_bytes_.find(std::string(word));
        if (found != by_bytes_.end()) return {found->second};
    }
    std::vector<std::int32_t> ids;
    for (char c : word) {
        const std::int32_t id = byte_id_[static_cast<unsigned char>(c)];
        if (id >= 0) ids.push_back(id);  // like Hugging Face, skips a byte that the vocabulary does not have
    }
    merge_pairs(ids, merges_);
    return ids;
}

void ByteBpeTokenizer::encode_segment(std::vector<std::int32_t>& out, std::string_view segment,
                                      std::unordered_map<std::string_view, std::vector<std::int32_t>>& known) const {
    if (segment.empty()) return;
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
    std::unordered_map<std::string_view, std::vector<std::int32_t>> known;  // words of this text
    std::size_t done = 0;
    for (std::size_t at = 0; at < content.size();) {
        const AddedToken* found = nullptr;
        if (added_begins_[static_cast<unsigned char>(content[at])]) {
            const auto rest = content.substr(at);
            const auto match = std::find_if(added_.begin(), added_.end(), [&](const AddedToken& t) {
                return rest.substr(0, t.content.size()) == t.content;
            });
            if (match != added_.end()) found = &*match;
        }
        if (!found) {
            ++at;
            continue;
        }
        encode_segment(out, content.substr(done, at - done), known);
        out.push_back(found->id);
        done = at += found->content.size();
    }
    encode_segment(out, content.substr(done), known);
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
