// Does what AddedVocabulary of `tokenizers` does, also where tokens that take white space along meet.
#include "io/added_tokens.h"

#include <algorithm>

#include "core/error.h"
#include "io/characters.h"
#include "io/tokenizer_fields.h"

namespace longlora {

AddedToken read_added_token(const Json& json, const std::string& where) {
    AddedToken token;
    token.where = where;
    token.content = get_text(json, "content", where);
    const auto flag = [&](const char* name) {
        if (!json.contains(name)) return false;
        require(json[name].is_boolean(), where, ": \"", name, "\" of the added token ", token.content,
                " is neither true nor false");
        return json[name].get<bool>();
    };
    token.single_word = flag("single_word"), token.lstrip = flag("lstrip"), token.rstrip = flag("rstrip");
    token.normalized = flag("normalized"), token.special = flag("special");
    return token;
}

std::vector<AddedToken> read_added_tokens(const Json& tokenizer, const std::string& path) {
    std::vector<AddedToken> tokens;
    if (!tokenizer.contains("added_tokens")) return tokens;
    require(tokenizer["added_tokens"].is_array(), path, ": \"added_tokens\" is not a list");
    for (const Json& json : tokenizer["added_tokens"]) {
        check_fields(json, "added token", path);
        AddedToken token = read_added_token(json, path);
        for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized", "special"})
            require(json.contains(flag), path, ": the added token ", token.content, " has no \"", flag, "\"");
        const std::int64_t id = get_integer(json, "id", path);
        require(id >= 0 && id < (1 << 28), path, ": the id of the added token ", token.content, " is not valid");
        token.id = static_cast<std::int32_t>(id);
        if (!token.content.empty()) tokens.push_back(std::move(token));
    }
    return tokens;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, Normalizer normalizer)
    : tokens_(std::move(tokens)),
      normalizer_(std::move(normalizer)) {
    std::vector<std::string_view> texts[2];
    std::deque<std::string> changed;
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
        if (tokens_[i].content.empty()) continue;
        if (tokens_[i].single_word) word_at_begin("a");  // an Error now instead of in the middle of the texts
        const int pass = tokens_[i].normalized ? 1 : 0;
        const bool as_it_is = pass == 0 || !normalizer_.changes();
        texts[pass].push_back(as_it_is ? tokens_[i].content
                                       : changed.emplace_back(normalizer_.apply(tokens_[i].content)));
        passes_[pass].token.push_back(static_cast<std::int32_t>(i));
    }
    for (int pass : {0, 1}) passes_[pass].tree = PrefixTree(texts[pass]);
}

const AddedToken* AddedTokens::find(const std::string& content) const {
    const auto found =
        std::find_if(tokens_.begin(), tokens_.end(), [&](const AddedToken& t) { return t.content == content; });
    return found == tokens_.end() ? nullptr : &*found;
}

void AddedTokens::split_by(const Pass& pass, std::string_view text, std::vector<TextPiece>& pieces) const {
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
        const PrefixTree::Match match = pass.tree.longest(text.substr(at));
        if (match.length == 0) {
            ++at;
            continue;
        }
        const AddedToken& token = tokens_[pass.token[match.index]];
        std::size_t begin = at, end = at + match.length;
        at = end;  // white space that the token takes along may still begin another token
        if (token.single_word && (word_at_end(text.substr(0, begin)) || word_at_begin(text.substr(end)))) continue;
        if (token.lstrip) begin = std::max(begin - space_at_end(text.substr(0, begin)), done);
        if (token.rstrip) end += space_at_begin(text.substr(end));
        require(token.id != kNoId, "it has the text ", token.content, ", which ", token.where,
                " names as a token that has no id");
        if (done < begin) pieces.push_back({text.substr(done, begin - done)});
        // Nothing is left of a token on whose left the one before took all.
        if (begin < end) pieces.push_back({text.substr(begin, end - begin), token.id});
        done = end;
    }
    if (done < text.size()) pieces.push_back({text.substr(done)});
}

std::vector<TextPiece> AddedTokens::split(std::string_view text, std::deque<std::string>& changed) const {
    std::vector<TextPiece> first, all;
    split_by(passes_[0], text, first);
    if (!first.empty()) first[0].first = true;
    for (const TextPiece& piece : first) {
        if (piece.id != kNoId) {
            all.push_back(piece);
            continue;
        }
        const std::size_t begin = all.size();
        split_by(passes_[1], normalizer_.changes() ? changed.emplace_back(normalizer_.apply(piece.text)) : piece.text,
                 all);
        if (begin < all.size()) all[begin].first = piece.first;
    }
    return all;
}

}  // namespace longlora
