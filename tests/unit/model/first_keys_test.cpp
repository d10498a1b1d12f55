// First keys kept as stretches answer as a list with one number for each token does, for random lists; and windows of
// patterns have few stretches, however many tokens there are.
#include <boost/test/unit_test.hpp>
#include <numeric>

#include "core/random.h"
#include "kernels/windows.h"
#include "model/attention_pattern.h"

using namespace longlora;

namespace {

std::int64_t below(std::uint64_t n, std::uint64_t seed, std::uint64_t at) {
    return static_cast<std::int64_t>(random_below(n, seed, 31, at));
}

/// Parts that stay, parts that grow with the tokens, and jumps; never falling, never after the token.
std::vector<std::int32_t> random_list(std::uint64_t seed) {
    std::vector<std::int32_t> list;
    const std::int64_t tokens = 1 + below(60, seed, 0);
    std::int64_t first = 0;
    for (std::uint64_t part = 1; static_cast<std::int64_t>(list.size()) < tokens; ++part) {
        const bool grows = below(2, seed, 3 * part);
        first += below(6, seed, 3 * part + 1);
        for (std::int64_t i = 1 + below(9, seed, 3 * part + 2); i > 0; --i, first += grows) {
            first = std::min(first, static_cast<std::int64_t>(list.size()));
            list.push_back(static_cast<std::int32_t>(first));
        }
    }
    return list;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(first_keys)

BOOST_AUTO_TEST_CASE(answers_are_those_of_the_list) {
    for (std::uint64_t seed = 0; seed < 500; ++seed) BOOST_TEST_CONTEXT("seed " << seed) {
            const std::vector<std::int32_t> list = random_list(seed);
            const auto tokens = static_cast<std::int64_t>(list.size());
            const FirstKeys keys(list);
            BOOST_REQUIRE(keys.num_tokens() == tokens);
            BOOST_TEST(keys.valid());
            for (std::int64_t t = 0; t < tokens; ++t) BOOST_REQUIRE(keys[t] == list[static_cast<std::size_t>(t)]);
            for (std::int64_t t = 0; t <= tokens; ++t)
                BOOST_REQUIRE(keys.sum_before(t) == std::accumulate(list.begin(), list.begin() + t, std::int64_t{0}));
            for (std::int64_t key = 0; key <= tokens + 1; ++key)
                BOOST_REQUIRE(keys.first_token_at(key) ==
                              std::lower_bound(list.begin(), list.end(), key) - list.begin());
            std::vector<std::int32_t> written(list.size());
            keys.write(written);
            BOOST_TEST(written == list, boost::test_tools::per_element());
        }
}

BOOST_AUTO_TEST_CASE(pairs_are_those_of_a_double_loop) {
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        const std::vector<std::int32_t> list = random_list(seed);
        const auto tokens = static_cast<std::int64_t>(list.size());
        Windows windows;
        windows.host[0] = windows.host[1] = list;
        for (std::uint64_t i = 0; i < 20; ++i) {
            const std::int64_t q = below(list.size(), seed, 1000 + 4 * i), k = below(list.size(), seed, 1001 + 4 * i),
                               nq = below(static_cast<std::uint64_t>(tokens - q) + 1, seed, 1002 + 4 * i),
                               nk = below(static_cast<std::uint64_t>(tokens - k) + 1, seed, 1003 + 4 * i);
            std::int64_t pairs = 0;
            for (std::int64_t t = q; t < q + nq; ++t)
                for (std::int64_t key = k; key < k + nk; ++key)
                    pairs += key <= t && key >= list[static_cast<std::size_t>(t)];
            BOOST_REQUIRE(visible_pairs(windows, HeadKind::plain, q, nq, k, nk) == pairs);
        }
    }
}

BOOST_AUTO_TEST_CASE(bad_lists_are_noticed) {
    BOOST_TEST(!FirstKeys(std::vector<std::int32_t>{1}).valid());
    BOOST_TEST(!FirstKeys(std::vector<std::int32_t>{-1, 0}).valid());
    BOOST_TEST(!FirstKeys(std::vector<std::int32_t>{0, 1, 0}).valid());
    BOOST_TEST(!FirstKeys(std::vector<std::int32_t>{0, 0, 3, 3}).valid());
    BOOST_TEST(!FirstKeys(std::vector<std::int32_t>{0, 1, 2, 4, 5}).valid());
    BOOST_TEST(FirstKeys(std::vector<std::int32_t>{0, 1, 2, 3}).valid());
}

BOOST_AUTO_TEST_CASE(a_million_tokens_take_few_stretches) {
    constexpr std::int64_t kTokens = std::int64_t{1} << 20, kGroup = 8192;
    const auto stretches = [](AttentionKind kind, std::int64_t group, std::span<const std::int64_t> documents = {}) {
        const HostWindows windows = make_windows({kind, group}, 0, kTokens, 32, documents);
        return std::max(windows.first_key[0].stretches().size(), windows.first_key[1].stretches().size());
    };
    BOOST_TEST(stretches(AttentionKind::dense, 0) == 1u);
    BOOST_TEST(stretches(AttentionKind::sliding, kGroup) == 2u);
    BOOST_TEST(stretches(AttentionKind::shifted, kGroup) == static_cast<std::size_t>(kTokens / kGroup) + 1);
    const std::vector<std::int64_t> documents{0, 100, 5000, 70000, 900001};
    BOOST_TEST(stretches(AttentionKind::sliding, kGroup, documents) <= 2 + 2 * documents.size());
}

BOOST_AUTO_TEST_SUITE_END()
