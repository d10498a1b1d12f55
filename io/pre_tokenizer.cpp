// Reads the parts of a pre-tokenizer into steps, each of which cuts the words of the step before.
#include "io/pre_tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "io/newer_characters.h"
#include "io/normalizer.h"
#include "io/regex_dialect.h"
#include "io/tokenizer_fields.h"

namespace longlora {

namespace {

/// GPT-2's pattern. A ByteLevel pre-tokenizer with use_regex cuts by it.
constexpr const char* kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

bool get_flag(const Json& json, const char* key, const std::string& path) {
    const Json& value = member(json, key, path);
    require(value.is_boolean(), path, ": \"", key, "\" is ", to_line(value).substr(0, 60), ", neither true nor false");
    return value.get<bool>();
}

/// Appends the parts of `word` that begin at its begin and at each `at`.
void cut_before(std::vector<std::string_view>& parts, std::string_view word, const std::string& at) {
    while (!word.empty()) {
        const std::size_t next = std::min(word.find(at, 1), word.size());
        parts.push_back(word.substr(0, next));
        word.remove_prefix(next);
    }
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& json, const std::string& path) {
    if (json.is_null()) return;
    add(json, path);
    if (json.contains("add_prefix_space") && json["add_prefix_space"].is_boolean())
        add_prefix_space_ = json["add_prefix_space"].get<bool>();
}

void PreTokenizer::add(const Json& json, const std::string& path) {
    const std::string type = get_text(json, "type", path + ", pre_tokenizer");
    check_fields(json, "pre-tokenizer " + type, path);
    require(!byte_level_, path, ": the pre-tokenizer ", type, " stands behind ByteLevel; that is not supported; ",
            "tokenize with another program and prepare the token ids");
    if (type == "Sequence") {
        const Json& parts = member(json, "pretokenizers", path);
        require(parts.is_array(), path, ": \"pretokenizers\" is not a list");
        for (const Json& part : parts) add(part, path);
    } else if (type == "Digits") {
        const bool single = get_flag(json, "individual_digits", path);
        const std::string number = R"([\p{N})" + newer_characters("N") + kNewestNumbers + "]";
        steps_.push_back({"", Prefix::never, "", true, "", RegexSplit(number + (single ? "" : "+"), path)});
    } else if (type == "Split") {
        for (const char* key : {"behavior", "invert"}) member(json, key, path);
        const GivenPattern pattern = read_pattern(member(json, "pattern", path), "pattern of Split", path);
        steps_.push_back({"", Prefix::never, "", true, "", RegexSplit(pattern.pcre(path), path)});
    } else if (type == "Metaspace") {
        steps_.push_back(metaspace(json, path));
    } else {
        byte_level_ = true;
        const Prefix prefix = get_flag(json, "add_prefix_space", path) ? Prefix::always : Prefix::never;
        const bool cuts = !json.contains("use_regex") || get_flag(json, "use_regex", path);
        steps_.push_back({"", prefix, " ", cuts, "", RegexSplit(pcre_of_oniguruma(kGpt2Pattern, path), path)});
    }
}

/// Spaces become another character, usually U+2581. A piece may get one in front, and words may begin with it.
PreTokenizer::Step PreTokenizer::metaspace(const Json& json, const std::string& path) const {
    const std::string mark = get_text(json, "replacement", path),
                      scheme = json.contains("prepend_scheme") ? get_text(json, "prepend_scheme", path) : "always";
    require(!mark.empty(), path, ": \"replacement\" of the pre-tokenizer Metaspace is empty");
    require(scheme == "always" || scheme == "first" || scheme == "never", path,
            ": \"prepend_scheme\" of the pre-tokenizer Metaspace is \"", scheme,
            "\"; only \"always\", \"first\", \"never\" are supported");
    const bool no_prefix = json.contains("add_prefix_space") && json["add_prefix_space"] == false;
    require(!no_prefix || scheme == "never", path,
            ": \"add_prefix_space\" and \"prepend_scheme\" of the pre-tokenizer Metaspace disagree");
    const Prefix prefix = scheme == "always" ? Prefix::always : scheme == "first" ? Prefix::first : Prefix::never;
    const bool cuts = !json.contains("split") || json["split"].is_null() || get_flag(json, "split", path);
    return {mark, prefix, mark, cuts, mark, std::nullopt};
}

std::vector<std::string_view> PreTokenizer::words_of(std::string_view text, bool first,
                                                     std::deque<std::string>& changed) const {
    std::vector<std::string_view> words{text}, next;
    for (const Step& step : steps_) {
        next.clear();
        for (std::size_t i = 0; i < words.size(); ++i) {
            std::string_view word = words[i];
            if (!step.space.empty() && word.find(' ') != std::string_view::npos)
                word = changed.emplace_back(with_replaced(std::string(word), " ", step.space));
            const bool prefix = step.prefix == Prefix::always || (step.prefix == Prefix::first && first && i == 0);
            if (prefix && !word.starts_with(step.front)) word = changed.emplace_back(step.front + std::string(word));
            if (!step.cuts) next.push_back(word);
            else if (!step.at.empty()) cut_before(next, word, step.at);
            else step.split->append_pieces(next, word);
        }
        words.swap(next);
    }
    return words;
}

}  // namespace longlora
