// A warning when token ids were made with another tokenizer than the model's: then every number that follows is
// meaningless.
#pragma once

#include <string>

#include "io/token_file.h"

namespace longlora {

/// "" when the token file's tokenizer is one of the model folder's files (by SHA-256), or when there is nothing to
/// compare.
std::string tokenizer_note(const std::string& model_folder, const TokenFile& file);

}  // namespace longlora
