// Windows that would reach beyond the end of their text are left out, so all windows are whole.
#include "eval/perplexity_windows.h"

#include <algorithm>

#include "core/error.h"

namespace longlora {
namespace {

bool full(const WindowList& list, const WindowRules& rules) {
    return rules.max_windows > 0 && static_cast<std::int64_t>(list.windows.size()) >= rules.max_windows;
}

void add_documents(WindowList& list, const WindowRules& rules, std::int64_t index, const TokenFile& file) {
    const auto& begins = file.document_begin();
    std::int64_t longest = 0;
    for (std::size_t d = 0; d + 1 < begins.size(); ++d) {
        const std::int64_t begin = begins[d], end = begins[d + 1];
        longest = std::max(longest, end - begin);
        list.documents += 1;
        if (end - begin < rules.context) list.skipped_documents += 1;
        else add_windows(list, rules, index, begin, end);
    }
    require(longest >= rules.context, "no window of ", rules.context, " tokens fits into a document of ", file.path(),
            ", whose longest has ", longest, " tokens; take a shorter --context or leave --per-document out");
}

}  // namespace

Score score_of(const std::string& name) {
    if (name == "all") return Score::all;
    if (name == "last") return Score::last;
    fail(text("--score ", name,
              " is not known; take all (every token of a window) or last (the last --stride tokens of it)"));
}

std::string_view name_of(Score score) { return score == Score::all ? "all" : "last"; }

std::int64_t add_windows(WindowList& list, const WindowRules& rules, std::int64_t file, std::int64_t begin,
                         std::int64_t end) {
    ensure(rules.context >= 2 && rules.stride >= 1, "a window predicts something and the next one is further on");
    std::int64_t added = 0;
    for (std::int64_t at = begin; at + rules.context <= end && !full(list, rules); at += rules.stride, ++added) {
        const bool all = rules.score == Score::all || at == begin;
        const std::int64_t first_target = all ? 1 : std::max<std::int64_t>(1, rules.context - rules.stride);
        list.windows.push_back({file, at, first_target});
        list.counted_tokens += rules.context - first_target;
    }
    return added;
}

WindowList list_windows(const TokenFiles& files, const WindowRules& rules) {
    WindowList list;
    for (std::size_t i = 0; i < files.size(); ++i) {
        const TokenFile& file = *files[i];
        const std::int64_t index = i;
        require(file.num_tokens() >= rules.context, "no window of ", rules.context, " tokens fits into ", file.path(),
                ", which has ", file.num_tokens(), " tokens; take a shorter --context or more text");
        if (rules.per_document) add_documents(list, rules, index, file);
        else add_windows(list, rules, index, 0, file.num_tokens());
    }
    return list;
}

}  // namespace longlora
