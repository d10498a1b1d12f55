// A warning for token ids that were made with another tokenizer than that of the model: all numbers that follow would
// be meaningless.
#pragma once

#include <string>

#include "io/token_file.h"

namespace longlora {

/// "" if the tokenizer of the token file is one of the tokenizer files of the model folder (by SHA-256), or if there
/// is nothing to compare; else the warning.
std::string tokenizer_note(const std::string& model_folder, const TokenFile& file);

}  // namespace longlora
