// Perplexity on as many ranks as mpirun started: the same bits as alone, more ranks than windows, and what fails on one rank fails on all.
#include <boost/test/unit_test.hpp>

#include "dist/agree.h"
#include "tests/unit/eval/eval_testing.h"

using namespace eval_testing;

BOOST_AUTO_TEST_SUITE(perplexity_over_ranks)

BOOST_AUTO_TEST_CASE(same_bits_as_alone) {
    const TemporaryFolder folder;   // each rank its own
    TinyModel tiny;
    const dist::HostGroup all, alone(MPI_COMM_SELF);
    const TokenFiles files{token_file(folder / "a.h5", {30, 50, 41})};
    for (const std::int64_t max_windows : {1, 2, 3, 0})
        for (const Score score : {Score::all, Score::last}) {
            const WindowRules rules{24, 5, score, false, max_windows};
            const WindowList list = list_windows(files, rules);
            std::int64_t calls = 0;
            const Perplexity together = measure_perplexity(all, *tiny.weights, {AttentionKind::shifted, 8}, files, rules, list, [&](std::int64_t done) { BOOST_CHECK_EQUAL(done, ++calls); });
            const Perplexity single = measure_perplexity(alone, *tiny.weights, {AttentionKind::shifted, 8}, files, rules, list);
            BOOST_CHECK_EQUAL(together.loss_sum, single.loss_sum);
            BOOST_CHECK_EQUAL(together.windows, single.windows);
            BOOST_CHECK_EQUAL(together.tokens, single.tokens);
            BOOST_CHECK_GT(single.loss_sum, 0);
        }
}

BOOST_AUTO_TEST_CASE(one_rank_fails) {
    const TemporaryFolder folder;
    TinyModel tiny;
    const dist::HostGroup all;
    const TokenFiles files{token_file(folder / "a.h5", {121})};
    const WindowRules rules{24, 5, Score::all, false, 0};
    const auto stop = [&](std::int64_t) {
        if (all.rank() == all.size() - 1) fail("enough", ExitCode::stopped);
    };
    try {
        measure_perplexity(all, *tiny.weights, {AttentionKind::dense, 0}, files, rules, list_windows(files, rules), stop);
        BOOST_ERROR("a rank went on without the one that failed");
    } catch (const dist::AgreedError& e) {
        BOOST_CHECK(e.code == ExitCode::stopped);
        BOOST_CHECK(std::string(e.what()).find("enough") != std::string::npos);
    }
}

BOOST_AUTO_TEST_SUITE_END()
