// Which windows of which token files are evaluated, and which tokens of each window count: pure arithmetic over
// documents. perplexity.h computes them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/token_file.h"

namespace longlora {

/// Which tokens of a window count. all: every token but the first. last: the last `stride` tokens, so that each has at
/// least context - stride tokens before it; in the first window of a text, every token but the first.
enum class Score : std::uint8_t { all, last };
Score score_of(const std::string& name);
std::string_view name_of(Score score);

struct WindowRules {
    /// In tokens. Windows start at 0, stride, 2 stride ... of the file, or of each document.
    std::int64_t context = 0, stride = 0;
    Score score = Score::all;
    bool per_document = false;     ///< no window crosses into another document, so none predicts its first token
    std::int64_t max_windows = 0;  ///< only so many, the first ones; 0 = all
};

/// The tokens [begin, begin + context) of a file. The tokens from begin + first_target on are predicted and counted;
/// first_target >= 1.
struct EvaluationWindow {
    std::int64_t file = 0, begin = 0, first_target = 1;
    bool operator==(const EvaluationWindow&) const = default;
};

struct WindowList {
    std::vector<EvaluationWindow> windows;
    std::int64_t counted_tokens = 0;  ///< predictions over all windows
    /// With per_document alone. Documents that are shorter than the context are skipped.
    std::int64_t documents = 0, skipped_documents = 0;
};

using TokenFiles = std::vector<std::shared_ptr<const TokenFile>>;

/// Adds the windows of the tokens [begin, end) of a file; returns their number.
std::int64_t add_windows(WindowList& list, const WindowRules& rules, std::int64_t file, std::int64_t begin,
                         std::int64_t end);
/// The windows of all files, one file after the other. An Error names a file into which no window fits.
WindowList list_windows(const TokenFiles& files, const WindowRules& rules);

}  // namespace longlora
