// Which ids `longlora prepare` puts around texts: what the files of the tokenizer ask for (io/text_frame.h), and what
// --bos and --eos make of it.
#pragma once

#include <string>

#include "jobs/prepare/prepare.h"
#include "jobs/prepare/units.h"

namespace longlora {

/// Sets the ids of the settings; returns them with the reasons.
TextFrame decide_frame(const PrepareOptions& options, const Tokenizer& tokenizer, TokenizeSettings& settings);

/// "texts begin with <s> (1): add_bos_token of tokenizer_config.json is true"; `verb` is "begin" or "end".
std::string sentence_of_end(const Tokenizer& tokenizer, const std::string& verb, const TextEnd& end);

}  // namespace longlora
