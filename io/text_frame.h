// The ids that belong before and behind a text: which ones the files of a tokenizer ask for, and why. Whether prepare
// puts them there is its own decision (jobs/prepare).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/json.h"

namespace longlora {

/// Ids at one end of every text.
struct TextEnd {
    std::vector<std::int32_t> ids;  // none: nothing is put there
    std::string why;                // "the post_processor of tokenizer.json adds it"
};

struct TextFrame {
    TextEnd begin, end;
};

/// The ids that a "post_processor" of tokenizer.json puts around one text, without reasons; nothing if no part of it
/// adds ids.
std::optional<TextFrame> frame_of_post_processor(const Json& post_processor, const std::string& path);

/// An Error if an id of the frame is beyond the vocabulary.
void check_frame(const TextFrame& frame, std::int64_t vocabulary, const std::string& path);

}  // namespace longlora
