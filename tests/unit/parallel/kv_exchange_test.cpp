// Compares the exchange lists with a double loop over queries, keys and heads, for any pattern, any lengths, and K/V
// heads that serve both kinds of query heads. Also tests the counts of S2 in closed form, and how much attention each
// rank computes.
#include <boost/test/unit_test.hpp>
#include <set>
#include <tuple>

#include "tests/unit/parallel/kv_exchange_testing.h"

using namespace longlora;
using namespace longlora::parallel;
using namespace longlora::parallel::exchange_testing;

namespace {

/// (rank that needs the key, its owner, K/V head, token)
using Need = std::tuple<int, int, std::int64_t, std::int64_t>;

int owner_of(std::int64_t token, std::int64_t tokens, int ranks) {
    for (int r = 0; r < ranks; ++r)
        if (token >= tokens * r / ranks && token < tokens * (r + 1) / ranks) return r;
    return -1;
}

std::set<Need> needs(const Keys& keys, int ranks, std::int64_t heads, std::int64_t kv_heads) {
    const auto tokens = static_cast<std::int64_t>(keys.first[0].size());
    std::set<Need> out;
    for (std::int64_t head = 0; head < heads; ++head)
        for (std::int64_t t = 0; t < tokens; ++t)
            for (std::int64_t key = keys.first[head < keys.num_plain_heads ? 0 : 1][static_cast<std::size_t>(t)];
                 key <= t; ++key) {
                const int to = owner_of(t, tokens, ranks), from = owner_of(key, tokens, ranks);
                if (to != from) out.insert({to, from, head / (heads / kv_heads), key});
            }
    return out;
}

/// Checks that the queries of the transfer are all queries of the reader that see any of its keys; they begin at the
/// first token of the reader.
void check_queries(const Keys& keys, int ranks, std::int64_t group, const KvTransfer& transfer,
                   const std::string& what) {
    const Shard own = tokens_of(static_cast<std::int64_t>(keys.first[0].size()), transfer.to, ranks);
    std::int64_t count = 0;
    for (std::int64_t t = own.begin; t < own.end(); ++t) {
        bool sees = false;
        for (std::int64_t head = transfer.heads.begin * group; head < transfer.heads.end() * group; ++head)
            sees = sees ||
                   keys.first[head < keys.num_plain_heads ? 0 : 1][static_cast<std::size_t>(t)] < transfer.tokens.end();
        count += sees;
    }
    BOOST_CHECK_MESSAGE(transfer.queries == (Shard{own.begin, count}),
                        what << ": the queries that are sent are not the queries that see the keys");
}

/// The number of visible pairs that each rank computes, by a double loop.
std::vector<std::int64_t> work(const Keys& keys, const std::vector<std::vector<KvTransfer>>& rounds, int ranks,
                               std::int64_t heads, std::int64_t kv_heads) {
    const auto tokens = static_cast<std::int64_t>(keys.first[0].size());
    std::set<std::tuple<int, int, std::int64_t>> given;  // reader, owner, K/V head
    for (const auto& round : rounds)
        for (const KvTransfer& transfer : round)
            for (std::int64_t head = transfer.heads.begin; transfer.at_owner() && head < transfer.heads.end(); ++head)
                given.insert({transfer.to, transfer.from, head});
    std::vector<std::int64_t> out(static_cast<std::size_t>(ranks), 0);
    for (std::int64_t head = 0; head < heads; ++head)
        for (std::int64_t t = 0; t < tokens; ++t)
            for (std::int64_t key = keys.first[head < keys.num_plain_heads ? 0 : 1][static_cast<std::size_t>(t)];
                 key <= t; ++key) {
                const int reader = owner_of(t, tokens, ranks), owner = owner_of(key, tokens, ranks);
                ++out[static_cast<std::size_t>(given.contains({reader, owner, head / (heads / kv_heads)}) ? owner
                                                                                                          : reader)];
            }
    return out;
}
std::int64_t most(const std::vector<std::int64_t>& of) { return *std::max_element(of.begin(), of.end()); }
bool any_at_owner(const std::vector<std::vector<KvTransfer>>& rounds) {
    for (const auto& round : rounds)
        for (const KvTransfer& transfer : round)
            if (transfer.at_owner()) return true;
    return false;
}

void compare(const Keys& keys, const std::vector<std::vector<KvTransfer>>& rounds, int ranks, std::int64_t heads,
             std::int64_t kv_heads, const std::string& what) {
    std::set<Need> sent;
    BOOST_CHECK_LT(rounds.size(), static_cast<std::size_t>(ranks));
    BOOST_CHECK(rounds.empty() || !rounds.back().empty());
    for (std::size_t j = 0; j < rounds.size(); ++j) {
        const KvTransfer* before = nullptr;
        for (const KvTransfer& transfer : rounds[j]) {
            const bool at_owner = transfer.at_owner();
            BOOST_CHECK_EQUAL(at_owner ? ranks - (transfer.to - transfer.from) : transfer.to - transfer.from,
                              static_cast<int>(j) + 1);  // the distance to the left on the ring
            BOOST_CHECK(!at_owner || 2 * (transfer.to - transfer.from) > ranks);
            BOOST_CHECK(transfer.tokens.count > 0 && transfer.heads.count > 0);
            if (before)  // in order; two equal transfers would have been merged
                BOOST_CHECK(std::make_tuple(before->at_owner(), before->to, before->tokens.begin) <
                            std::make_tuple(at_owner, transfer.to, transfer.tokens.begin));
            before = &transfer;
            if (at_owner) check_queries(keys, ranks, heads / kv_heads, transfer, what);
            for (std::int64_t head = transfer.heads.begin; head < transfer.heads.end(); ++head)
                for (std::int64_t token = transfer.tokens.begin; token < transfer.tokens.end(); ++token)
                    BOOST_CHECK_MESSAGE(sent.insert({transfer.to, transfer.from, head, token}).second,
                                        what << ": token " << token << " of head " << head << " is sent twice");
        }
    }
    BOOST_CHECK_MESSAGE(sent == needs(keys, ranks, heads, kv_heads),
                        what << ": the keys that are sent are not the keys that are needed");
}

void compare(const Keys& keys, int ranks, std::int64_t heads, std::int64_t kv_heads, const std::string& what) {
    compare(keys, transfers_of(keys, ranks, heads, kv_heads), ranks, heads, kv_heads, what);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(kv_exchange)

BOOST_AUTO_TEST_CASE(what_is_sent_is_what_is_needed) {
    for (const auto& [heads, kv_heads] : kHeads)
        for (const int ranks : {1, 2, 3, 5, 8})
            for (const std::int64_t tokens : {8, 24, 29, 61}) {
                const std::string at = text(" N ", tokens, " S ", ranks, " H ", heads, "/", kv_heads);
                // Some shards are shorter than half a group.
                for (const std::int64_t group : {1, 2, 3, 6, 7, 8, 16, 31, 70}) {
                    compare(shifted(tokens, group, heads / 2), ranks, heads, kv_heads, text("shifted G ", group, at));
                    compare(sliding(tokens, group, heads), ranks, heads, kv_heads, text("sliding G ", group, at));
                    Keys documents = shifted(tokens, group, heads / 2);
                    add_documents(documents, static_cast<std::uint64_t>(group));
                    compare(documents, ranks, heads, kv_heads, text("documents G ", group, at));
                }
                compare(dense(tokens, heads), ranks, heads, kv_heads, "dense" + at);
                for (std::uint64_t seed = 0; seed < 6; ++seed)
                    compare(random_walk(tokens,
                                        static_cast<std::int64_t>(
                                            random_below(static_cast<std::uint64_t>(heads) + 1, seed, 4, 0)),
                                        seed),
                            ranks, heads, kv_heads, text("walk ", seed, at));
            }
}

BOOST_AUTO_TEST_CASE(more_ranks_than_tokens) {
    for (const std::int64_t tokens : {1, 2, 3}) {
        compare(dense(tokens, 2), 5, 2, 1, text("dense, 5 ranks, N ", tokens));
        compare(shifted(tokens, 2, 1), 5, 2, 2, text("shifted, 5 ranks, N ", tokens));
    }
}

BOOST_AUTO_TEST_CASE(aligned_shards_of_s2_send_half_a_group_to_one_neighbour) {
    for (const std::int64_t group : {2, 3, 8, 9})
        for (const std::int64_t groups_per_rank : {1, 2, 5})
            for (const int ranks : {2, 3, 4, 8})
                for (const auto& [heads, kv_heads, shifted_kv_begin] :
                     {std::tuple<std::int64_t, std::int64_t, std::int64_t>{9, 3, 1}, {4, 4, 2}, {8, 2, 1}, {3, 1, 0}}) {
                    const std::int64_t n = group * groups_per_rank, halo = group - group / 2;
                    const auto rounds = transfers_of(shifted(n * ranks, group, heads / 2), ranks, heads, kv_heads);
                    BOOST_REQUIRE_EQUAL(rounds.size(), 1u);
                    BOOST_REQUIRE_EQUAL(rounds[0].size(), static_cast<std::size_t>(ranks - 1));
                    for (int to = 1; to < ranks; ++to) {
                        const KvTransfer expected{
                            to - 1, to, {n * to - halo, halo}, {shifted_kv_begin, kv_heads - shifted_kv_begin}};
                        BOOST_CHECK(rounds[0][static_cast<std::size_t>(to - 1)] == expected);
                    }
                    BOOST_CHECK(stays(shifted(n * ranks, group, heads / 2), ranks, heads, kv_heads));
                }
}

BOOST_AUTO_TEST_CASE(one_transfer_where_all_heads_need_the_same) {
    const auto rounds = transfers_of(dense(30, 9), 3, 9, 3);
    BOOST_REQUIRE_EQUAL(rounds.size(), 1u);
    BOOST_CHECK(rounds[0] ==
                (std::vector<KvTransfer>{
                    {0, 1, {0, 10}, {0, 3}}, {1, 2, {10, 10}, {0, 3}}, {0, 2, {0, 10}, {0, 3}, {20, 10}}}));
    // The heads have different first keys, both on rank 0. So all heads need every key of rank 1, which is one
    // transfer.
    const auto far = transfers_of(
        make_keys(30, 1, [](int kind, std::int64_t t) { return std::min<std::int64_t>(t, kind ? 4 : 7); }), 3, 2, 2);
    BOOST_CHECK(far[0] == (std::vector<KvTransfer>{{0, 1, {4, 6}, {1, 1}},
                                                   {0, 1, {7, 3}, {0, 1}},
                                                   {1, 2, {10, 10}, {0, 2}},
                                                   {0, 2, {4, 6}, {1, 1}, {20, 10}},
                                                   {0, 2, {7, 3}, {0, 1}, {20, 10}}}));
}

/// With shards of n tokens, the queries of a rank see n (n + 1) / 2 pairs with its own keys and n^2 with those of
/// each rank before it.
BOOST_AUTO_TEST_CASE(dense_work_is_shared_evenly) {
    constexpr std::int64_t n = 6, kNumHeads = 4, kSquare = n * n, kOwn = n * (n + 1) / 2;
    for (int ranks = 1; ranks <= 9; ++ranks) {
        const Keys keys = dense(n * ranks, kNumHeads);
        const auto rounds = transfers_of(keys, ranks, kNumHeads, 2);
        BOOST_CHECK_EQUAL(rounds.size(), static_cast<std::size_t>(ranks / 2));
        BOOST_CHECK_EQUAL(any_at_owner(rounds), ranks > 2);
        const auto of = work(keys, rounds, ranks, kNumHeads, 2);
        for (int rank = 0; rank < ranks; ++rank) {
            const int half = ranks / 2,
                      computed = std::min(rank, half) +
                                 std::max(0, ranks - 1 - half - rank);  // squares for itself, for others
            BOOST_CHECK_EQUAL(of[static_cast<std::size_t>(rank)], kNumHeads * (kSquare * computed + kOwn));
            BOOST_CHECK(computed == half || (ranks % 2 == 0 && computed == half - 1));
        }
        for (const auto& round : rounds) {  // on the ring each rank sends and gets at most one piece per round
            std::set<int> sends, gets;
            for (const KvTransfer& transfer : round) {
                BOOST_CHECK(sends.insert(transfer.at_owner() ? transfer.to : transfer.from).second);
                BOOST_CHECK(gets.insert(transfer.at_owner() ? transfer.from : transfer.to).second);
            }
        }
    }
}

/// For any windows: if any attention is computed at the owner of the keys, the highest cost of a rank is lower than
/// when all attention is computed at the queries. Otherwise it is the same.
BOOST_AUTO_TEST_CASE(the_highest_cost_falls_or_nothing_changes) {
    int given = 0, not_given = 0;
    for (const auto& [heads, kv_heads] : kHeads)
        for (const int ranks : {3, 4, 5, 8})
            for (std::uint64_t seed = 0; seed < 12; ++seed) {
                const std::int64_t tokens = 61;
                Keys keys = seed < 3   ? shifted(tokens, 20 + 13 * static_cast<std::int64_t>(seed), heads / 2)
                            : seed < 6 ? dense(tokens, heads)
                                       : random_walk(tokens, heads / 2, seed);
                if (seed % 3 == 1) add_documents(keys, seed);
                const auto rounds = transfers_of(keys, ranks, heads, kv_heads);
                const std::int64_t without = most(work(keys, {}, ranks, heads, kv_heads)),
                                   with = most(work(keys, rounds, ranks, heads, kv_heads));
                BOOST_CHECK(any_at_owner(rounds) ? with < without : with == without);
                any_at_owner(rounds) ? ++given : ++not_given;
            }
    BOOST_CHECK_GT(given, 20);
    BOOST_CHECK_GT(not_given, 20);
}

/// With documents, owners compute for the same pairs of ranks as without, as long as queries of the pair see any key.
/// So no rank gets more work than planned.
BOOST_AUTO_TEST_CASE(documents_follow_the_pattern) {
    int given = 0, all = 0;
    for (const auto& [heads, kv_heads] : kHeads)
        for (const int ranks : {3, 4, 5, 8})
            for (std::uint64_t seed = 0; seed < 8; ++seed) {
                const Keys pattern = seed % 2 ? dense(61, heads) : random_walk(61, heads / 2, seed);
                Keys keys = pattern;
                for (auto& first : keys.first)  // one long document among short ones
                    for (std::int64_t t = 0; t < 61; ++t)
                        first[static_cast<std::size_t>(t)] =
                            std::max(first[static_cast<std::size_t>(t)],
                                     static_cast<std::int32_t>(t < 3                                      ? 0
                                                               : t < 50 + static_cast<std::int64_t>(seed) ? 3
                                                                                                          : t));
                const auto planned = transfers_of(pattern, ranks, heads, kv_heads),
                           rounds = all_transfers(keys, pattern, ranks, heads, kv_heads);
                compare(keys, rounds, ranks, heads, kv_heads,
                        text("documents of a pattern, seed ", seed, " S ", ranks, " H ", heads, "/", kv_heads));
                std::set<std::pair<int, int>> pairs;
                for (const auto& round : planned)
                    for (const KvTransfer& transfer : round)
                        if (transfer.at_owner()) pairs.insert({transfer.from, transfer.to});
                for (const auto& round : rounds)
                    for (const KvTransfer& transfer : round) {
                        BOOST_CHECK_EQUAL(transfer.at_owner(), pairs.contains({transfer.from, transfer.to}));
                        given += transfer.at_owner(), ++all;
                    }
                BOOST_CHECK_LE(most(work(keys, rounds, ranks, heads, kv_heads)),
                               most(work(pattern, planned, ranks, heads, kv_heads)));
            }
    BOOST_CHECK_GT(given, 50);
    BOOST_CHECK_GT(all - given, 50);
}

BOOST_AUTO_TEST_CASE(short_reach_is_computed_where_the_queries_are) {
    for (const int ranks : {2, 3, 4, 8}) {
        const std::int64_t n = 12;
        for (const Keys& keys :
             {sliding(n * ranks, n * (ranks / 2) + 1, 2), shifted(n * ranks, n, 1), shifted(n * ranks, 2 * n, 1)})
            BOOST_CHECK(!any_at_owner(transfers_of(keys, ranks, 2, 2)));
        BOOST_CHECK(!stays(dense(n * ranks, 2), ranks, 2, 2));
    }
}

BOOST_AUTO_TEST_CASE(plain_groups_within_shards_need_nothing) {
    BOOST_CHECK(transfers_of(shifted(48, 4, 2), 3, 2, 2).empty());  // all heads are plain
    BOOST_CHECK(transfers_of(dense(48, 2), 1, 2, 2).empty());
}

BOOST_AUTO_TEST_CASE(at_most_three_quarters_of_the_own_elements_stay) {
    const auto stays = [](const Keys& keys, int ranks, std::int64_t heads) {
        return exchange_testing::stays(keys, ranks, heads, heads);
    };
    BOOST_CHECK(!stays(dense(20, 2), 2, 2));  // as many elements as the rank owns
    BOOST_CHECK(!stays(dense(21, 2), 2, 2));
    BOOST_CHECK(!stays(dense(30, 2), 3, 2));
    BOOST_CHECK(stays(sliding(80, 16, 2), 4, 2));  // 15 of 20 tokens
    BOOST_CHECK(!stays(sliding(80, 17, 2), 4, 2));
}

BOOST_AUTO_TEST_CASE(classes_of_heads) {
    const auto classes = [](std::int64_t plain, std::int64_t heads, std::int64_t kv_heads) {
        std::string out;
        for (const KvHeadClass& one : kv_head_classes(shifted(4, 2, plain).windows(), heads, kv_heads))
            out += text(one.plain ? "p" : "", one.shifted ? "s" : "", one.heads.begin, "+", one.heads.count, " ");
        return out;
    };
    BOOST_CHECK_EQUAL(classes(4, 9, 3), "p0+1 ps1+1 s2+1 ");
    BOOST_CHECK_EQUAL(classes(9, 9, 3), "p0+3 ");
    BOOST_CHECK_EQUAL(classes(0, 9, 3), "s0+3 ");
    BOOST_CHECK_EQUAL(classes(4, 8, 2), "p0+1 s1+1 ");
    BOOST_CHECK_EQUAL(classes(1, 3, 1), "ps0+1 ");
}

BOOST_AUTO_TEST_SUITE_END()
