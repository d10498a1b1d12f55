// Follows BPE of `tokenizers`, also in what it does not say: of equal merges the last one counts, and an unknown token
// waits for the next token of the vocabulary while tokens of bytes pass it.
#include "io/bpe_model.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "io/added_tokens.h"
#include "io/byte_characters.h"
#include "io/tokenizer_fields.h"

namespace longlora {

namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";  // U+2581

/// The character that `text`, which is not empty, begins with.
std::string_view first_character(std::string_view text) {
    std::size_t n = 1;
    while (n < text.size() && (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) ++n;
    return text.substr(0, n);
}

std::string token_of_byte(unsigned char byte) {
    constexpr const char* digits = "0123456789ABCDEF";
    return {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
}

bool get_flag(const Json& json, const char* key, const std::string& path) {
    if (!json.contains(key)) return false;
    require(json[key].is_boolean(), path, ": \"", key, "\" is ", to_line(json[key]).substr(0, 60),
            ", neither true nor false");
    return json[key].get<bool>();
}

}  // namespace

BpeModel::BpeModel(const Json& json, const std::string& path, bool byte_level) : path_(path), byte_level_(byte_level) {
    const std::string type =
        json.is_object() && json.contains("type") && json["type"].is_string() ? json["type"].get<std::string>() : "BPE";
    require(type == "BPE", path_, " is a ", type,
            " tokenizer; only BPE is supported; tokenize with another program and prepare the token ids");
    check_fields(json, "model", path_);
    ignore_merges_ = get_flag(json, "ignore_merges", path_), fuse_unknown_ = get_flag(json, "fuse_unk", path_);
    byte_fallback_ = get_flag(json, "byte_fallback", path_);
    has_unknown_ = json.contains("unk_token") && !json["unk_token"].is_null();
    if (has_unknown_) unknown_ = get_text(json, "unk_token", path_);
    read_vocabulary(member(json, "vocab", path_));
    read_merges(member(json, "merges", path_));
    if (has_unknown_) unknown_id_ = id_of(unknown_);
    decide_cuts();
}

void BpeModel::read_vocabulary(const Json& vocabulary) {
    require(vocabulary.is_object() && !vocabulary.empty(), path_, ": \"vocab\" is not an object of tokens");
    for (const auto& [token, value] : vocabulary.items()) {
        require(value.is_number_unsigned() && value.get<std::uint64_t>() < (1u << 28), path_, ": the id of \"", token,
                "\" is not valid");
        const auto id = value.get<std::int32_t>();
        ids_[token] = id;
        if (static_cast<std::size_t>(id) >= spelled_.size()) spelled_.resize(static_cast<std::size_t>(id) + 1);
        spelled_[id] = token;
        if (!byte_level_) continue;
        // A token with a character that stands for no byte is in no word.
        if (const auto bytes = bytes_of_characters(token)) by_bytes_[*bytes] = id;
    }
    for (int b = 0; b < 256; ++b) {
        const auto byte = static_cast<unsigned char>(b);
        unit_id_[b] = byte_level_ ? id_of(character_of_byte(byte))
                      : b < 128   ? id_of(std::string(1, static_cast<char>(b)))
                                  : kNoId;
        fallback_[b] = id_of(token_of_byte(byte));
    }
}

/// A merge is ["a", "b"], or in older files "a b".
void BpeModel::read_merges(const Json& merges) {
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

/// A merge across such a cut would have, on its left, a token that does not end with the mark, and on its right one
/// that begins with it. The unknown token must not hide a mark either.
void BpeModel::decide_cuts() {
    const bool hidden = has_unknown_ && unknown_.ends_with(kSpaceMark);
    cuts_ = !byte_level_ && !ignore_merges_ && !hidden && id_of(kSpaceMark) != kNoId;
    for (const auto& [pair, merge] : merges_) {
        const std::string &left = spelled_[pair >> 32], &right = spelled_[pair & 0xffffffff];
        if (!left.ends_with(kSpaceMark) && right.starts_with(kSpaceMark)) cuts_ = false;
    }
}

std::int32_t BpeModel::id_of(std::string_view token) const {
    const auto found = ids_.find(std::string(token));
    return found == ids_.end() ? kNoId : found->second;
}

std::int32_t BpeModel::id_of_unit(std::string_view unit) const {
    return unit.size() == 1 ? unit_id_[static_cast<unsigned char>(unit[0])] : id_of(unit);
}

/// False if the vocabulary lacks one of the bytes; then nothing is appended.
bool BpeModel::append_bytes_of(std::string_view unit, std::vector<std::int32_t>& ids) const {
    if (!byte_fallback_) return false;
    const std::string_view bytes = byte_level_ ? character_of_byte(static_cast<unsigned char>(unit[0])) : unit;
    const std::size_t before = ids.size();
    for (const char byte : bytes) ids.push_back(fallback_[static_cast<unsigned char>(byte)]);
    const bool all = std::find(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end(), kNoId) == ids.end();
    if (!all) ids.resize(before);
    return all;
}

void BpeModel::refuse_unit(std::string_view unit) const {
    const std::string what =
        byte_level_ ? text("byte ", static_cast<int>(static_cast<unsigned char>(unit[0]))) : text("character ", unit);
    fail(text("it has the ", what, ", and ", path_, " has neither this ", byte_level_ ? "byte" : "character",
              " nor its unk_token \"", unknown_, "\""));
}

std::vector<std::int32_t> BpeModel::encode(std::string_view word) const {
    if (ignore_merges_) {
        const auto& known = byte_level_ ? by_bytes_ : ids_;
        const auto found = known.find(std::string(word));
        if (found != known.end()) return {found->second};
    }
    std::vector<std::int32_t> ids;
    bool waiting = false;  // an unknown token
    for (std::string_view unit; !word.empty(); word.remove_prefix(unit.size())) {
        unit = byte_level_ ? word.substr(0, 1) : first_character(word);
        const std::int32_t id = id_of_unit(unit);
        if (id == kNoId && append_bytes_of(unit, ids)) continue;
        if (id == kNoId && !has_unknown_) continue;
        if (waiting && !(id == kNoId && fuse_unknown_)) ids.push_back(unknown_id_);
        waiting = id == kNoId;
        if (!waiting) ids.push_back(id);
        else if (unknown_id_ == kNoId) refuse_unit(unit);
    }
    if (waiting) ids.push_back(unknown_id_);
    merge_pairs(ids, merges_);
    return ids;
}

void BpeModel::cut(std::string_view word, std::vector<std::string_view>& parts) const {
    std::size_t begin = 0;
    for (std::size_t at = cuts_ ? word.find(kSpaceMark) : std::string_view::npos; at != std::string_view::npos;
         at = word.find(kSpaceMark, at + kSpaceMark.size())) {
        if (at == begin || word.substr(0, at).ends_with(kSpaceMark)) continue;
        parts.push_back(word.substr(begin, at - begin));
        begin = at;
    }
    parts.push_back(word.substr(begin));
}

}  // namespace longlora
