// "tokenizer_class": by its name transformers 5 decides what it takes from the files of a tokenizer. Most names mean
// tokenizer.json as it is. Some classes take only the vocabulary, the merges, the added tokens and the post_processor
// from it, and have a normalizer, a pre_tokenizer and a decoder of their own.
#pragma once

#include <string>

#include "io/json.h"
#include "io/tokenizer_config.h"

namespace longlora {

/// The class that transformers 5 uses for the files of `folder`, without "Fast"; "" if it is one that takes the files
/// as they are. `tokenizer` is the tokenizer.json, or null if there is none. An Error if the class is not supported.
std::string read_tokenizer_class(const std::string& folder, const Json& tokenizer);

/// Tokens that a class has where no file says otherwise: {"bos_token": "<s>", ...}.
Json names_of_class(const std::string& name);

/// Puts the parts that the class has in place of those of a tokenizer.json. Returns what the user should know if they
/// differ from those of the file, or "". Does nothing for "".
std::string take_parts_of_class(const std::string& name, const TokenizerConfig& config, Json& tokenizer,
                                const std::string& path);

}  // namespace longlora
