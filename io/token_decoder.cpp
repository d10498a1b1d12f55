// Reads a decoder into its rules, applies to each token what can be applied once, and leaves the rest to the stream.
#include "io/token_decoder.h"

#include "core/error.h"
#include "io/byte_characters.h"
#include "io/normalizer.h"
#include "io/regex_dialect.h"
#include "io/tokenizer_fields.h"

namespace longlora {

namespace {

constexpr const char* kReplacement = "\xef\xbf\xbd";  // U+FFFD

/// The byte that a token like "<0xE2>" stands for, or -1.
int byte_of_token(const std::string& token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
    const auto digit = [](char c) {
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                      : -1;
    };
    const int high = digit(token[3]), low = digit(token[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

TokenDecoder::TokenDecoder(const Json& json, std::vector<SpelledToken> tokens, const std::string& path) : path_(path) {
    if (json.is_null()) {
        rules_.between = " ";
    } else {
        try {
            read(json, path);
        } catch (const Error& problem) {
            problem_ = problem.what();
        }
    }
    tokens_.reserve(tokens.size());
    for (const SpelledToken& spelled : tokens) tokens_.push_back(token_of(spelled));
}

/// The parts in the order Replace, ByteFallback, Fuse, Strip, of which any may be missing; or ByteLevel, or Metaspace.
void TokenDecoder::read(const Json& json, const std::string& path) {
    const std::string type = get_text(json, "type", path + ", decoder");
    check_fields(json, "decoder " + type, path);
    const auto expect = [&](bool good) {
        require(good, path, ": the decoder ", type, " stands behind another part; that is not supported");
    };
    if (type == "Sequence") {
        const Json& parts = member(json, "decoders", path);
        require(parts.is_array(), path, ": \"decoders\" is not a list");
        for (const Json& part : parts) read(part, path);
        return;
    }
    expect(!rules_.byte_level && rules_.num_stripped == 0 && rules_.dropped_from_first.empty());
    if (type == "ByteLevel") {
        expect(!rules_.byte_fallback && !rules_.fused && rules_.replace.empty());
        rules_.byte_level = true;
    } else if (type == "ByteFallback") {
        expect(!rules_.fused);
        rules_.byte_fallback = true;
    } else if (type == "Fuse") {
        rules_.fused = true;
    } else if (type == "Replace") {
        expect(!rules_.byte_fallback && !rules_.fused);
        const GivenPattern pattern = read_pattern(member(json, "pattern", path), "pattern of Replace", path);
        require(!pattern.is_regex && !pattern.text.empty(), path,
                ": the pattern of a Replace of the decoder is not a text");
        rules_.replace.emplace_back(pattern.text, get_text(json, "content", path));
    } else if (type == "Strip") {
        expect(rules_.fused);
        rules_.stripped = get_text(json, "content", path);
        rules_.num_stripped = get_integer(json, "start", path);
    } else {
        expect(!rules_.byte_fallback && !rules_.fused && rules_.replace.empty());
        const std::string mark = get_text(json, "replacement", path);  // Metaspace
        const bool prefix = !(json.contains("prepend_scheme") && json["prepend_scheme"] == "never") &&
                            !(json.contains("add_prefix_space") && json["add_prefix_space"] == false);
        rules_.replace.emplace_back(mark, " ");
        if (prefix) rules_.dropped_from_first = mark;
    }
}

TokenDecoder::Token TokenDecoder::token_of(const SpelledToken& spelled) const {
    Token token;
    token.special = spelled.special;
    std::string bytes = spelled.spelled;
    if (rules_.byte_level) {
        bytes = bytes_of_characters(bytes).value_or(bytes);
    } else {
        for (const auto& [from, to] : rules_.replace) bytes = with_replaced(bytes, from, to);
        const int byte = rules_.byte_fallback ? byte_of_token(bytes) : -1;
        token.is_byte = byte >= 0;
        if (token.is_byte) bytes = static_cast<char>(byte);
    }
    token.name = spelled.special || token.is_byte ? spelled.spelled : bytes;
    if (!spelled.special) token.bytes = std::move(bytes);
    return token;
}

const TokenDecoder::Token& TokenDecoder::token(std::int32_t id) const {
    require(id >= 0 && static_cast<std::size_t>(id) < tokens_.size(), "the id ", id, " is beyond the vocabulary of ",
            path_);
    return tokens_[id];
}

std::string TokenDecoder::decode(const std::vector<std::int32_t>& ids) const {
    DecodeStream stream(*this);
    std::string text;
    for (const std::int32_t id : ids) text += stream.add(id);
    return text += stream.finish();
}

DecodeStream::DecodeStream(const TokenDecoder& decoder) : decoder_(&decoder), strip_left_(decoder.rules_.num_stripped) {
    require(decoder.problem_.empty(), decoder.problem_);
}

std::string DecodeStream::add(std::int32_t id) {
    const TokenDecoder::Token& token = decoder_->token(id);
    const TokenDecoder::Rules& rules = decoder_->rules_;
    if (token.special || token.name.empty()) return {};
    const bool first = first_;
    first_ = false;
    if (rules.byte_level) return repair_.add(token.bytes);
    if (token.is_byte) {
        run_ += token.bytes;
        return {};
    }
    std::string text = end_of_run();
    if (!first) text += rules.between;
    if (first && !rules.dropped_from_first.empty()) {
        text += with_replaced(token.bytes, " ", "");  // its marks have become spaces
    } else {
        text += token.bytes;
    }
    return without_begin(std::move(text));
}

std::string DecodeStream::finish() { return repair_.finish() + without_begin(end_of_run()); }

/// A run of bytes that is UTF-8, or one U+FFFD for each of its bytes.
std::string DecodeStream::end_of_run() {
    std::string run = std::move(run_);
    run_.clear();
    std::string repaired = run;
    if (repair_utf8(repaired) == 0) return run;
    repaired.clear();
    for (std::size_t i = 0; i < run.size(); ++i) repaired += kReplacement;
    return repaired;
}

std::string DecodeStream::without_begin(std::string text) {
    const std::string& stripped = decoder_->rules_.stripped;
    while (strip_left_ > 0 && text.starts_with(stripped)) {
        text.erase(0, stripped.size());
        --strip_left_;
    }
    if (!text.empty()) strip_left_ = 0;
    return text;
}

}  // namespace longlora
