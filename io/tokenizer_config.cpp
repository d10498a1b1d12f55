// Follows PreTrainedTokenizerBase.from_pretrained of transformers 5.
#include "io/tokenizer_config.h"

#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "io/file.h"

namespace longlora {

namespace {

constexpr const char* kWayOut = "; tokenize with another program and prepare the token ids";
constexpr const char* kNamedTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};

Json read_if_there(const std::string& path) {
    if (!file_exists(path)) return Json::object();
    Json json = read_json_file(path);
    require(json.is_object(), path, " is not a JSON object");
    return json;
}

std::optional<bool> flag(const Json& json, const char* key, const std::string& path) {
    if (!json.contains(key)) return std::nullopt;
    const Json& value = json[key];
    require(value.is_boolean() || value.is_null(), path, ": \"", key, "\" is ", to_line(value).substr(0, 60),
            ", neither true nor false");
    return value.is_boolean() && value.get<bool>();
}

/// A special token is a text or an object with content and flags.
AddedToken named_token(const Json& value, const std::string& where) {
    AddedToken token;
    if (value.is_object()) {
        token = read_added_token(value, where);
    } else {
        require(value.is_string(), where, " is ", to_line(value).substr(0, 60), ", not a token");
        token.content = value.get<std::string>();
        token.where = where;
    }
    token.special = true, token.normalized = false;
    return token;
}

void read_named(const Json& json, const std::string& path, TokenizerConfig& config) {
    for (const char* key : kNamedTokens)
        if (json.contains(key) && !json[key].is_null())
            config.named.push_back(named_token(json[key], text(key, " of ", path)));
    for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
        if (!json.contains(key) || json[key].is_null()) continue;
        require(json[key].is_array() || json[key].is_object(), path, ": \"", key, "\" is not a list");
        for (const Json& value : json[key]) config.named.push_back(named_token(value, text(key, " of ", path)));
    }
    for (const auto& [key, content] : {std::pair{"bos_token", &config.bos}, std::pair{"eos_token", &config.eos}}) {
        if (!json.contains(key)) continue;
        const std::string named = json[key].is_null() ? "" : named_token(json[key], path).content;
        if (json[key].is_null() || !named.empty()) *content = named;  // an empty name says nothing
    }
}

/// {"32000": {"content": "<|im_start|>", "lstrip": false, ...}}
void read_decoder(const Json& decoder, const std::string& path, TokenizerConfig& config) {
    require(decoder.is_object(), path, ": \"added_tokens_decoder\" is not an object");
    config.added_have_flags = true;
    for (const auto& [key, value] : decoder.items()) {
        AddedToken token = read_added_token(value, "added_tokens_decoder of " + path);
        require(!key.empty() && key.size() < 9 && key.find_first_not_of("0123456789") == std::string::npos, path,
                ": the id ", key.substr(0, 60), " of the added token ", token.content, " is not valid");
        token.id = static_cast<std::int32_t>(std::stol(key));
        config.added.push_back(std::move(token));
    }
}

/// {"<|im_start|>": 32000}
void read_added_file(const Json& json, const std::string& path, bool decoder_exists, TokenizerConfig& config) {
    for (const auto& [content, value] : json.items()) {
        const std::int64_t id = get_integer(json, content.c_str(), path);
        require(id >= 0 && id < (1 << 28), path, ": the id of the added token ", content, " is not valid");
        const auto known = std::find_if(config.added.begin(), config.added.end(),
                                        [&, c = content](const AddedToken& t) { return t.content == c; });
        if (known == config.added.end() && !decoder_exists) {
            AddedToken token;
            token.content = content, token.id = static_cast<std::int32_t>(id), token.where = path;
            token.normalized = std::none_of(config.named.begin(), config.named.end(),
                                            [&, c = content](const AddedToken& t) { return t.content == c; });
            config.added.push_back(std::move(token));
            continue;
        }
        require(known != config.added.end() && known->id == id, path, " and tokenizer_config.json disagree about the ",
                "token ", content, "; correct or remove one of them");
    }
}

std::int64_t config_id(const Json& json, const char* key) {
    if (!json.contains(key)) return -1;
    const Json& value = json[key].is_array() && !json[key].empty() ? json[key][0] : json[key];
    return value.is_number_unsigned() && value.get<std::uint64_t>() < (1u << 28) ? value.get<std::int64_t>() : -1;
}

/// The ids that `tokenizers` gives to tokens that it adds one after another.
class NextId {
public:
    explicit NextId(std::int64_t vocabulary) : vocabulary_(vocabulary) {}
    std::int64_t get() const { return std::max(vocabulary_, highest_ + 1); }
    void given(std::int64_t id) { highest_ = std::max(highest_, id); }

private:
    std::int64_t vocabulary_, highest_ = -1;
};

void check_ids(const std::vector<AddedToken>& tokens, const ModelVocabulary& vocabulary) {
    NextId next(vocabulary.size);
    for (const AddedToken& token : tokens) {
        if (token.id == kNoId) continue;
        const std::int64_t known = vocabulary.id_of(token.content), expected = known != kNoId ? known : next.get();
        const bool placeholder = vocabulary.ids_may_be_taken && known == kNoId && token.id < vocabulary.size;
        require(placeholder || token.id == expected, token.where, ": the added token ", token.content, " has id ",
                token.id, ", but transformers gives it id ", expected, ", since ",
                known != kNoId ? "the vocabulary has it there" : "that is the next free one", kWayOut);
        next.given(token.id);
    }
}

}  // namespace

TokenizerConfig read_tokenizer_config(const std::string& folder, const Json& names) {
    TokenizerConfig config;
    const std::string path = folder + "/tokenizer_config.json", map_path = folder + "/special_tokens_map.json",
                      added_path = folder + "/added_tokens.json";
    Json json = read_if_there(path);
    const bool decoder = json.contains("added_tokens_decoder") && !json["added_tokens_decoder"].is_null();
    if (!decoder) json.update(read_if_there(map_path));
    if (decoder) read_decoder(json["added_tokens_decoder"], path, config);
    read_named(json, path, config);
    Json missing = Json::object();
    for (const auto& [key, value] : names.items())
        if (!json.contains(key)) missing[key] = value;
    read_named(missing, "the tokenizer_class", config);
    read_added_file(read_if_there(added_path), added_path, decoder, config);
    std::stable_sort(config.added.begin(), config.added.end(),
                     [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
    config.add_bos = flag(json, "add_bos_token", path), config.add_eos = flag(json, "add_eos_token", path);
    config.add_prefix_space = flag(json, "add_prefix_space", path);
    if (json.contains("add_prefix_space") && json["add_prefix_space"].is_null()) config.add_prefix_space.reset();
    config.legacy = flag(json, "legacy", path);
    require(!flag(json, "split_special_tokens", path).value_or(false), path, ": \"split_special_tokens\" is true",
            kWayOut);
    require(!json.contains("sp_model_kwargs") || json["sp_model_kwargs"].empty(), path, ": \"sp_model_kwargs\" is ",
            to_line(json.value("sp_model_kwargs", Json())).substr(0, 60), "; only {} is supported", kWayOut);
    const Json model = read_if_there(folder + "/config.json");
    config.config_bos = config_id(model, "bos_token_id"), config.config_eos = config_id(model, "eos_token_id");
    return config;
}

std::vector<AddedToken> all_added_tokens(std::vector<AddedToken> tokens, const TokenizerConfig& config,
                                         const ModelVocabulary& vocabulary) {
    std::unordered_map<std::string, std::size_t> index;
    for (std::size_t i = 0; i < tokens.size(); ++i)
        require(index.emplace(tokens[i].content, i).second, tokens[i].where, ": the added token ", tokens[i].content,
                " is listed twice");
    const auto add = [&](const AddedToken& token) {
        if (index.emplace(token.content, tokens.size()).second) tokens.push_back(token);
    };
    for (const AddedToken& token : config.added) {
        const auto found = index.find(token.content);
        if (found != index.end()) {
            const AddedToken& own = tokens[found->second];
            const bool same = own.id == token.id &&
                              (!config.added_have_flags || (own.single_word == token.single_word &&
                                                            own.lstrip == token.lstrip && own.rstrip == token.rstrip));
            require(same, token.where, " and ", own.where, " disagree about the added token ", token.content,
                    "; correct or remove one of them");
        }
        add(token);
    }
    for (AddedToken token : config.named) {
        if (token.content.empty()) continue;
        token.id = vocabulary.id_of(token.content);
        add(token);
    }
    check_ids(tokens, vocabulary);
    return tokens;
}

TextFrame frame_of_tokenizer_json(const TokenizerConfig& config, const std::optional<TextFrame>& frame) {
    TextFrame result = frame.value_or(TextFrame{});
    const auto say = [](TextEnd& end, const char* option, const std::optional<bool>& wanted) {
        end.why = end.ids.empty() ? "the post_processor of tokenizer.json adds none"
                                  : "the post_processor of tokenizer.json adds it";
        if (wanted && *wanted == end.ids.empty())
            end.why += text(" (transformers ignores ", option, " ", *wanted ? "true" : "false", " beside it)");
    };
    say(result.begin, "add_bos_token", config.add_bos);
    say(result.end, "add_eos_token", config.add_eos);
    return result;
}

TextFrame frame_of_config(const TokenizerConfig& config, std::int32_t bos, std::int32_t eos) {
    TextFrame result;
    const auto decide = [](TextEnd& end, const char* option, const std::optional<bool>& said, bool by_default,
                           std::int32_t id, const char* by_whom) {
        const bool add = said.value_or(by_default);
        if (add && id != kNoId) end.ids = {id};
        end.why =
            text(option, said ? " of tokenizer_config.json is " : " is not set, so it is ", add ? "true" : "false",
                 said ? "" : by_whom, add && id == kNoId ? ", but there is no such token" : "");
    };
    decide(result.begin, "add_bos_token", config.add_bos, true, bos,
           " as in Llama's own code and transformers 4 (in 5 it is false, which --bos false does)");
    decide(result.end, "add_eos_token", config.add_eos, false, eos, "");
    return result;
}

}  // namespace longlora
