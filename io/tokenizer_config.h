// The files beside a tokenizer that change what transformers makes of a text: tokenizer_config.json,
// special_tokens_map.json, added_tokens.json and config.json. They add tokens to those of the tokenizer, and they say
// which ids stand around a text. What is in tokenizer.model and tokenizer.json themselves is read elsewhere.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/added_tokens.h"
#include "io/text_frame.h"

namespace longlora {

struct TokenizerConfig {
    std::vector<AddedToken> added;  // of added_tokens_decoder, or else of added_tokens.json, by id
    bool added_have_flags = false;  // added_tokens.json has contents and ids only
    std::vector<AddedToken> named;  // bos_token, pad_token, ...: special tokens that the files name, without ids
    // Not there: no file says it. A bos or eos of "" is null in the file: the tokenizer has none.
    std::optional<std::string> bos, eos;
    std::optional<bool> add_bos, add_eos, add_prefix_space, legacy;
    std::int64_t config_bos = -1, config_eos = -1;  // the ids of config.json, for files that name no tokens
};

/// Reads what exists of these files in `folder`. `names` are tokens that the tokenizer has where no file says
/// otherwise:
/// {"bos_token": "<s>"}. An Error if the files disagree, or ask for what is not supported.
TokenizerConfig read_tokenizer_config(const std::string& folder, const Json& names = Json::object());

/// The vocabulary of a tokenizer's model, without added tokens.
struct ModelVocabulary {
    std::int64_t size = 0;
    std::function<std::int32_t(const std::string&)> id_of;  // kNoId: the text is no token of the model
    bool ids_may_be_taken =
        false;  // by added tokens whose texts are no tokens of the model: SentencePiece has such ids
};

/// The tokens of the tokenizer itself (`own`) and those of the config. An Error if the files disagree about a token,
/// or if transformers would not give a token the id that its file says.
std::vector<AddedToken> all_added_tokens(std::vector<AddedToken> own, const TokenizerConfig& config,
                                         const ModelVocabulary& vocabulary);

/// What transformers puts around a text. Where there is a tokenizer.json, its post_processor alone decides (`frame`, or
/// nothing); it ignores add_bos_token and add_eos_token there.
TextFrame frame_of_tokenizer_json(const TokenizerConfig& config, const std::optional<TextFrame>& frame);
/// Without one, add_bos_token and add_eos_token decide. A missing add_bos_token is true, as in transformers 4 and in
/// Llama's own code; transformers 5 takes it as false. `bos` and `eos` are kNoId where there is none.
TextFrame frame_of_config(const TokenizerConfig& config, std::int32_t bos, std::int32_t eos);

}  // namespace longlora
