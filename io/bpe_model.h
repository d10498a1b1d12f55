// The "model" of a tokenizer.json of type BPE: its vocabulary, its merges, and the ids of one word. A word is either
// bytes (byte-level: the vocabulary spells them by io/byte_characters.h) or characters, of which those that the
// vocabulary lacks become tokens of bytes ("<0xE2>") or the unknown token.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/json.h"
#include "io/merge_pairs.h"

namespace longlora {

class BpeModel {
public:
    /// An Error names what is not supported, and merges that are not made of tokens.
    BpeModel(const Json& json, const std::string& path, bool byte_level);

    /// kNoId (io/added_tokens.h): the vocabulary does not have the token.
    std::int32_t id_of(std::string_view token) const;
    std::int64_t size() const { return static_cast<std::int64_t>(ids_.size()); }
    /// The tokens by id, as the file spells them; "" for an id that no token has.
    const std::vector<std::string>& spelled() const { return spelled_; }
    /// The ids of a word, which is not empty. An Error if a character has no id and there is no unknown token to stand
    /// for it, although the file names one. Thread-safe.
    std::vector<std::int32_t> encode(std::string_view word) const;
    /// Appends the parts of a word that no merge joins: it is cut in front of each U+2581, the mark of a space, that
    /// follows another character. Their ids, one after another, are those of the word.
    void cut(std::string_view word, std::vector<std::string_view>& parts) const;

private:
    void read_vocabulary(const Json& vocabulary);
    void read_merges(const Json& merges);
    void decide_cuts();
    std::int32_t id_of_unit(std::string_view unit) const;
    bool append_bytes_of(std::string_view unit, std::vector<std::int32_t>& ids) const;
    [[noreturn]] void refuse_unit(std::string_view unit) const;

    std::string path_;
    bool byte_level_;
    std::vector<std::string> spelled_;
    std::unordered_map<std::string, std::int32_t> ids_;       // by spelling
    std::unordered_map<std::string, std::int32_t> by_bytes_;  // byte-level: by what the token stands for
    std::array<std::int32_t, 256> unit_id_{};                 // of each byte (byte-level) or of each character of ASCII
    std::array<std::int32_t, 256> fallback_{};                // of the tokens "<0x00>" to "<0xFF>"
    MergeTable merges_;
    bool ignore_merges_ = false, fuse_unknown_ = false, byte_fallback_ = false, cuts_ = false;
    bool has_unknown_ = false;
    std::string unknown_;  // the token
    std::int32_t unknown_id_ = -1;
};

}  // namespace longlora
