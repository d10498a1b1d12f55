// Tests which windows are evaluated and which of their tokens count, against plain enumerations of every start and
// every token.
#include <boost/test/unit_test.hpp>
#include <map>

#include "eval_testing.h"

using namespace eval_testing;

namespace {

/// Start -> its counted targets (positions in the file), straight from the definition.
std::map<std::int64_t, std::set<std::int64_t>> expected(std::int64_t begin, std::int64_t end, std::int64_t n,
                                                        std::int64_t s, Score score) {
    std::map<std::int64_t, std::set<std::int64_t>> out;
    for (std::int64_t start = begin; start < end; ++start) {
        if ((start - begin) % s != 0 || start + n > end) continue;
        std::set<std::int64_t>& targets = out[start];
        for (std::int64_t t = start; t < start + n; ++t) {
            const bool has_context = t > start;  // the first token of a window has nothing before it
            const bool counts = score == Score::all || start == begin || t >= start + n - s;
            if (has_context && counts) targets.insert(t);
        }
    }
    return out;
}

std::map<std::int64_t, std::set<std::int64_t>> of(const WindowList& list, std::int64_t file, std::int64_t n) {
    std::map<std::int64_t, std::set<std::int64_t>> out;
    for (const auto& w : list.windows) {
        if (w.file != file) continue;
        BOOST_CHECK(!out.count(w.begin));
        for (std::int64_t t = w.begin + w.first_target; t < w.begin + n; ++t) out[w.begin].insert(t);
    }
    return out;
}

std::int64_t count(const std::map<std::int64_t, std::set<std::int64_t>>& windows) {
    std::int64_t n = 0;
    for (const auto& [start, targets] : windows) n += static_cast<std::int64_t>(targets.size());
    return n;
}

std::string refusal(const TokenFiles& files, const WindowRules& rules) {
    try {
        list_windows(files, rules);
    } catch (const Error& e) {
        BOOST_CHECK(e.code == ExitCode::bad_input);
        return e.what();
    }
    return "";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(windows)

BOOST_AUTO_TEST_CASE(every_length_context_and_stride) {
    for (std::int64_t length = 2; length <= 14; ++length)
        for (std::int64_t n = 2; n <= length + 1; ++n)
            for (std::int64_t s = 1; s <= n + 2; ++s)
                for (const Score score : {Score::all, Score::last}) {
                    WindowList list;
                    const auto want = expected(5, 5 + length, n, s, score);
                    const std::int64_t added = add_windows(list, {n, s, score, false, 0}, 0, 5, 5 + length);
                    BOOST_TEST_CONTEXT("length " << length << " context " << n << " stride " << s << " score "
                                                 << name_of(score)) {
                        BOOST_CHECK(of(list, 0, n) == want);
                        BOOST_CHECK_EQUAL(list.counted_tokens, count(want));
                        BOOST_CHECK_EQUAL(added, static_cast<std::int64_t>(want.size()));
                    }
                }
}

BOOST_AUTO_TEST_CASE(last_counts_every_token_once) {
    WindowList list;
    add_windows(list, {8, 3, Score::last, false, 0}, 0, 0, 8 + 3 * 5);
    std::map<std::int64_t, int> times;
    for (const auto& [start, targets] : of(list, 0, 8))
        for (const auto t : targets) times[t] += 1;
    BOOST_CHECK_EQUAL(times.size(), 22u);  // all but the very first token
    for (const auto& [t, n] : times) BOOST_CHECK_EQUAL(n, 1);
}

BOOST_AUTO_TEST_CASE(documents_and_files) {
    const TemporaryFolder folder;
    const std::vector<std::int64_t> lengths{9, 0, 4, 5, 23};
    const TokenFiles files{token_file(folder / "a.h5", lengths), token_file(folder / "b.h5", {7, 30})};
    for (const Score score : {Score::all, Score::last}) {
        const WindowRules crossing{5, 2, score, false, 0}, inside{5, 2, score, true, 0};
        const WindowList across = list_windows(files, crossing), per_document = list_windows(files, inside);
        BOOST_CHECK(of(across, 0, 5) == expected(0, 41, 5, 2, score));
        BOOST_CHECK(of(across, 1, 5) == expected(0, 37, 5, 2, score));
        std::map<std::int64_t, std::set<std::int64_t>> want;
        std::int64_t begin = 0;
        for (const auto length : lengths) {
            want.merge(expected(begin, begin + length, 5, 2, score));
            begin += length;
        }
        BOOST_CHECK(of(per_document, 0, 5) == want);
        BOOST_CHECK_EQUAL(per_document.documents, 7);
        BOOST_CHECK_EQUAL(per_document.skipped_documents, 2);
        BOOST_CHECK_EQUAL(across.skipped_documents, 0);
    }
}

/// With per_document, the first token of a document is never predicted, and all other tokens are. Documents of one
/// token and empty ones count nothing; documents of exactly one window and more do.
BOOST_AUTO_TEST_CASE(no_document_predicts_the_next_one) {
    const TemporaryFolder folder;
    const std::vector<std::int64_t> lengths{5, 1, 0, 1, 6, 5, 1, 12, 4};
    const TokenFiles files{token_file(folder / "a.h5", lengths)};
    for (const Score score : {Score::all, Score::last}) {
        const WindowList list = list_windows(files, {5, 1, score, true, 0});
        std::set<std::int64_t> predicted, wanted;
        for (const auto& [start, targets] : of(list, 0, 5)) predicted.insert(targets.begin(), targets.end());
        std::int64_t begin = 0;
        for (const auto length : lengths) {
            for (std::int64_t t = begin + 1; length >= 5 && t < begin + length; ++t) wanted.insert(t);
            begin += length;
        }
        BOOST_CHECK(predicted == wanted);
        BOOST_CHECK_EQUAL(list.counted_tokens, count(of(list, 0, 5)));
        if (score == Score::last) BOOST_CHECK_EQUAL(list.counted_tokens, static_cast<std::int64_t>(wanted.size()));
    }
}

BOOST_AUTO_TEST_CASE(a_limit_takes_the_first_windows) {
    const TemporaryFolder folder;
    const TokenFiles files{token_file(folder / "a.h5", {10}), token_file(folder / "b.h5", {10})};
    const WindowList all = list_windows(files, {4, 3, Score::last, false, 0});
    BOOST_CHECK_EQUAL(all.windows.size(), 6u);
    for (std::int64_t k = 1; k <= 8; ++k) {
        const WindowList first = list_windows(files, {4, 3, Score::last, false, k});
        BOOST_REQUIRE_EQUAL(first.windows.size(), static_cast<std::size_t>(std::min<std::int64_t>(k, 6)));
        BOOST_CHECK(std::equal(first.windows.begin(), first.windows.end(), all.windows.begin()));
        BOOST_CHECK_EQUAL(first.counted_tokens, count(of(first, 0, 4)) + count(of(first, 1, 4)));
    }
}

BOOST_AUTO_TEST_CASE(files_without_a_window_that_fits_are_refused) {
    const TemporaryFolder folder;
    const TokenFiles files{token_file(folder / "long.h5", {50}), token_file(folder / "short.h5", {6, 9})};
    const std::string too_short = refusal(files, {16, 4, Score::all, false, 0}),
                      in_documents = refusal(files, {10, 4, Score::all, true, 0});
    BOOST_CHECK(too_short.find("short.h5") != std::string::npos && too_short.find("15 tokens") != std::string::npos &&
                too_short.find("16 tokens") != std::string::npos);
    BOOST_CHECK(in_documents.find("short.h5") != std::string::npos &&
                in_documents.find("longest has 9 tokens") != std::string::npos);
    BOOST_CHECK(refusal(files, {15, 4, Score::all, false, 0}).empty());
    BOOST_CHECK(refusal(files, {9, 4, Score::all, true, 0}).empty());
    BOOST_CHECK_THROW(score_of("some"), Error);
}

BOOST_AUTO_TEST_SUITE_END()
