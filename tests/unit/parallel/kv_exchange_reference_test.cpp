// Compares the exchange lists of every rank with lists made by loops over all ranks and tokens, for random windows, and
// counts what lists of very long sequences on many ranks have. Properties of the lists: kv_exchange_test.cpp.
#include <boost/test/unit_test.hpp>

#include "tests/reference/kv_transfers.h"
#include "tests/unit/parallel/kv_exchange_testing.h"

using namespace longlora;
using namespace longlora::parallel;
using namespace longlora::parallel::exchange_testing;

BOOST_AUTO_TEST_SUITE(kv_exchange_reference)

/// Each rank's lists are its part of the lists that loops over all tokens make, whatever the windows.
BOOST_AUTO_TEST_CASE(the_lists_of_every_rank_are_those_of_loops_over_tokens) {
    int at_owner = 0, stay = 0, cases = 0;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        const auto below = [&](std::uint64_t n, std::uint64_t what) {
            return static_cast<std::int64_t>(random_below(n, seed, 7, what));
        };
        const auto& [heads, kv_heads] = kHeads[below(std::size(kHeads), 0)];
        const int ranks = 1 + static_cast<int>(below(9, 1));
        const std::int64_t tokens = 1 + below(70, 2), group = 1 + below(40, 3), plain = below(heads + 1, 4);
        const Keys pattern = seed % 4 == 0   ? shifted(tokens, group, plain)
                             : seed % 4 == 1 ? dense(tokens, plain)
                             : seed % 4 == 2 ? sliding(tokens, group, plain)
                                             : random_walk(tokens, plain, seed);
        Keys keys = pattern;
        if (below(2, 5)) add_documents(keys, seed);
        const auto problem = [&](const Keys& of) {
            return reference::KvProblem{{of.first[0], of.first[1]}, of.num_plain_heads, heads, kv_heads, ranks};
        };
        const reference::KvRounds expected = reference::kv_rounds(problem(keys), problem(pattern));
        const ExchangeRules rules = exchange_rules(pattern.windows(), ranks, heads, kv_heads);
        BOOST_TEST_CONTEXT("seed " << seed << ": N " << tokens << " S " << ranks << " G " << group << " H " << heads
                                   << "/" << kv_heads << ", " << plain << " plain") {
            BOOST_CHECK_EQUAL(rules.stays_until_backward, reference::stays_until_backward(problem(pattern)));
            for (int rank = 0; rank < ranks; ++rank) {
                const KvRounds rounds = kv_transfers(rules, keys.windows(), rank);
                BOOST_REQUIRE_EQUAL(rounds.size(), expected.size());
                for (std::size_t i = 0; i < rounds.size(); ++i) {
                    std::vector<reference::KvTransfer> mine, theirs;
                    for (const KvTransfer& t : rounds[i]) {
                        mine.push_back({t.from, t.to, t.tokens.begin, t.tokens.end(), t.heads.begin, t.heads.end(),
                                        t.queries.count});
                        at_owner += t.at_owner();
                    }
                    for (const auto& t : expected[i])
                        if (t.from == rank || t.to == rank) theirs.push_back(t);
                    BOOST_CHECK_MESSAGE(mine == theirs, "the lists of rank " << rank << " differ in round " << i + 1);
                }
            }
        }
        stay += rules.stays_until_backward, ++cases;
    }
    BOOST_CHECK_GT(at_owner, 100);
    BOOST_CHECK_GT(stay, 50);
    BOOST_CHECK_GT(cases - stay, 50);
}

/// What a rank lists grows with the ranks that it exchanges something with, not with the tokens or with all ranks.
BOOST_AUTO_TEST_CASE(a_million_tokens_on_many_ranks) {
    static constexpr std::int64_t kTokens = std::int64_t{1} << 20;
    constexpr int kRanks = 512;
    const auto one_stretch = [](std::int64_t first, bool grows) {
        FirstKeysBuilder keys;
        keys.add(std::min<std::int64_t>(first, kTokens), 0, false);
        keys.add(std::max<std::int64_t>(kTokens - first, 0), 1, grows);
        return std::move(keys).build();
    };
    Windows dense, near;
    for (int kind = 0; kind < 2; ++kind) dense.host[kind] = one_stretch(kTokens, false);
    for (int kind = 0; kind < 2; ++kind) near.host[kind] = one_stretch(3000, true);
    dense.num_plain_heads = near.num_plain_heads = 32;
    BOOST_TEST(dense.host[0].stretches().size() == 1u);
    BOOST_TEST(near.host[0].stretches().size() == 2u);
    const ExchangeRules of_dense = exchange_rules(dense, kRanks, 32, 8), of_near = exchange_rules(near, kRanks, 32, 8);
    BOOST_TEST(of_near.at_owner.empty());
    for (int rank = 0; rank < kRanks; ++rank) {
        std::size_t count = 0;
        for (const auto& round : kv_transfers(of_dense, dense, rank)) count += round.size();
        BOOST_TEST(count == static_cast<std::size_t>(kRanks - 1));  // one with every other rank
        const KvRounds rounds = kv_transfers(of_near, near, rank);
        BOOST_TEST(rounds.size() == 2u);  // 3000 keys reach two shards of 2048 tokens back
        for (const auto& round : rounds) BOOST_TEST(round.size() <= 2u);
    }
}

BOOST_AUTO_TEST_SUITE_END()
