// Uses PCRE2, which compiles the pattern to machine code where it can.
#include "io/regex_split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/error.h"

namespace longlora {

namespace {

std::string message_of(int error) {
    PCRE2_UCHAR message[256];
    pcre2_get_error_message(error, message, sizeof message);
    return reinterpret_cast<const char*>(message);
}

}  // namespace

RegexSplit::RegexSplit(const std::string& pattern, const std::string& where) : where_(where) {
    int error = 0;
    PCRE2_SIZE at = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
    require(code != nullptr, where, ": the pattern ", pattern.substr(0, 200), " cannot be used: ", message_of(error),
            " at its character ", at);
    code_ = std::shared_ptr<void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // may fail: then matching is only slower
}

using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

static MatchData new_match_data() { return {pcre2_match_data_create(1, nullptr), pcre2_match_data_free}; }

/// Calls visit(part, is_match) for the matches and for what is between them, in order. An empty match right behind the
/// match before it does not count: the search goes on one character later, as in the library that `tokenizers` uses.
template <class Visit> void RegexSplit::walk(std::string_view text, const Visit& visit) const {
    const auto* code = static_cast<const pcre2_code*>(code_.get());
    const MatchData match = new_match_data();
    std::size_t done = 0, at = 0;
    bool matched = false;
    while (at < text.size()) {
        const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                      PCRE2_NO_UTF_CHECK, match.get(), nullptr);
        if (found == PCRE2_ERROR_NOMATCH) break;
        require(found >= 0, where_, ": matching its pattern with a text failed: ", message_of(found));
        const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
        if (range[0] == range[1] && matched && range[0] == done) {
            ++at;
            while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) ++at;
            continue;
        }
        if (range[0] > done) visit(text.substr(done, range[0] - done), false);
        visit(text.substr(range[0], range[1] - range[0]), true);
        done = at = range[1];
        matched = true;
    }
    if (done < text.size()) visit(text.substr(done), false);
}

void RegexSplit::append_pieces(std::vector<std::string_view>& pieces, std::string_view text) const {
    walk(text, [&](std::string_view part, bool) {
        if (!part.empty()) pieces.push_back(part);
    });
}

std::string RegexSplit::replaced(std::string_view text, std::string_view by) const {
    std::string out;
    walk(text, [&](std::string_view part, bool is_match) {
        require(!is_match || !part.empty(), where_, ": the pattern of a Replace matches between two characters, which ",
                "is not supported; tokenize with another program and prepare the token ids");
        out += is_match ? by : part;
    });
    return out;
}

bool RegexSplit::matches(std::string_view text) const {
    const auto* code = static_cast<const pcre2_code*>(code_.get());
    const MatchData match = new_match_data();
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, PCRE2_NO_UTF_CHECK,
                                  match.get(), nullptr);
    require(found >= 0 || found == PCRE2_ERROR_NOMATCH, where_,
            ": matching its pattern with a text failed: ", message_of(found));
    return found >= 0;
}

}  // namespace longlora
