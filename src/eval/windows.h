// Which windows of which token files are evaluated, and which tokens of each count: pure arithmetic over documents.
// Computing them is perplexity.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/token_file.h"

namespace longlora {

/// all: every token of a window but its first. last: the last `stride` tokens, so that each has at least context -
/// stride tokens before it; where the text begins (no earlier window), all but the first.
enum class Score : std::uint8_t { all, last };
Score score_of(const std::string& name);
std::string_view name_of(Score score);

struct WindowRules {
    std::int64_t context = 0,
                 stride = 0;  ///< tokens; windows start at 0, stride, 2 stride ... of the file, or of each document
    Score score = Score::all;
    bool per_document = false;     ///< no window crosses into another document
    std::int64_t max_windows = 0;  ///< the first so many only; 0 = all
};

/// Tokens [begin, begin + context) of a file; those from begin + first_target on are predicted and counted.
/// first_target >= 1.
struct EvaluationWindow {
    std::int64_t file = 0, begin = 0, first_target = 1;
    bool operator==(const EvaluationWindow&) const = default;
};

struct WindowList {
    std::vector<EvaluationWindow> windows;
    std::int64_t counted_tokens = 0;                    ///< predictions over all windows
    std::int64_t documents = 0, skipped_documents = 0;  ///< per_document: skipped ones are shorter than the context
};

using TokenFiles = std::vector<std::shared_ptr<const TokenFile>>;

/// Adds the windows of tokens [begin, end) of a file; returns how many.
std::int64_t add_windows(WindowList& list, const WindowRules& rules, std::int64_t file, std::int64_t begin,
                         std::int64_t end);
/// Windows of all files, one file after another. A file in which no window fits is an Error that names it.
WindowList list_windows(const TokenFiles& files, const WindowRules& rules);

}  // namespace longlora
