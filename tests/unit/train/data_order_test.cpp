// The order of sequences against brute force: permutations, proportions of several files, wrapping, documents; and
// values that must never change. Reading the tokens is tested by tests/unit/train/batch_reader_test.cpp.
#include "train/data_order.h"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>
#include <set>

#include "train_testing.h"

using namespace longlora;
using namespace train_testing;

BOOST_AUTO_TEST_SUITE(data_order)

BOOST_AUTO_TEST_CASE(permuted_is_a_permutation) {
    std::vector<std::int64_t> sizes;
    for (std::int64_t n = 1; n <= 70; ++n) sizes.push_back(n);
    for (const std::int64_t n : {255, 256, 257, 1000, 4096, 4097, 65537}) sizes.push_back(n);
    for (const std::int64_t n : sizes) {
        for (std::uint64_t stream = 0; stream < 3; ++stream) {
            std::vector<bool> seen(n, false);
            for (std::int64_t i = 0; i < n; ++i) {
                const std::int64_t place = permuted(i, n, 11, stream);
                BOOST_REQUIRE(place >= 0 && place < n);
                BOOST_REQUIRE(!seen[place]);
                seen[place] = true;
            }
        }
    }
}

BOOST_AUTO_TEST_CASE(permuted_mixes) {
    // Where elements 0 and 7 of 16 go with 16,000 keys: 1000 times to every place, within 6 standard deviations of 31.
    for (const std::int64_t element : {0, 7}) {
        std::vector<int> count(16, 0);
        for (std::uint64_t stream = 0; stream < 16000; ++stream) ++count[permuted(element, 16, 5, stream)];
        for (const int c : count) BOOST_TEST(std::abs(c - 1000) < 190);
    }
    // Neighbours do not stay neighbours.
    int adjacent = 0;
    for (std::int64_t i = 0; i + 1 < 10000; ++i)
        adjacent += std::abs(permuted(i, 10000, 1, 2) - permuted(i + 1, 10000, 1, 2)) == 1;
    BOOST_TEST(adjacent < 12);
    // The time does not depend on the size.
    BOOST_TEST(permuted(123456789012, std::int64_t{1} << 50, 1, 2) < std::int64_t{1} << 50);
}

BOOST_AUTO_TEST_CASE(sequential_wraps_after_the_last_whole_one) {
    const TemporaryFolder folder;
    const DataOrder order({{token_file(folder / "a.h5", {10, 0, 17, 4}), 1}}, 8, SequenceOrder::sequential,
                          3);  // 31 tokens: 3 whole sequences
    for (std::int64_t i = 0; i < 20; ++i) BOOST_TEST((order.sequence(i) == Sequence{0, i % 3 * 8, i / 3}));
}

BOOST_AUTO_TEST_CASE(shuffle_visits_every_place_once_an_epoch) {
    const TemporaryFolder folder;
    const auto file = token_file(folder / "a.h5", {805});
    const DataOrder order({{file, 1}}, 8, SequenceOrder::shuffle, 3), again({{file, 1}}, 8, SequenceOrder::shuffle, 3),
        other({{file, 1}}, 8, SequenceOrder::shuffle, 4);
    int same_as_before = 0, same_as_other_seed = 0;
    for (std::int64_t epoch = 0; epoch < 4; ++epoch) {
        std::set<std::int64_t> places;
        for (std::int64_t i = epoch * 100; i < epoch * 100 + 100; ++i) {
            const Sequence s = order.sequence(i);
            BOOST_TEST((s == again.sequence(i)));
            BOOST_TEST(s.epoch == epoch);
            BOOST_TEST(s.first_token % 8 == 0);
            BOOST_TEST(s.first_token + 8 <= 805);
            places.insert(s.first_token);
            if (epoch) same_as_before += order.sequence(i - 100).first_token == s.first_token;
            same_as_other_seed += other.sequence(i).first_token == s.first_token;
        }
        BOOST_TEST(places.size() == 100u);
    }
    BOOST_TEST(same_as_before < 15);  // by chance about 3 of 300 are the same
    BOOST_TEST(same_as_other_seed < 15);
}

BOOST_AUTO_TEST_CASE(proportions_hold_at_every_index) {
    const TemporaryFolder folder;
    const std::vector<double> weights = {1, 0.3, 7, 0.3, 2.4};
    for (std::size_t files = 1; files <= weights.size(); ++files) {
        std::vector<DataSource> sources;
        double total = 0;
        for (std::size_t f = 0; f < files; ++f) {
            const std::string path = folder / text(files, "-", f, ".h5");
            sources.push_back({token_file(path, {static_cast<std::int64_t>(16 + 13 * f)}, f), weights[f]});
            total += weights[f];
        }
        for (const SequenceOrder kind : {SequenceOrder::sequential, SequenceOrder::shuffle}) {
            const DataOrder order(sources, 4, kind, 9);
            std::vector<std::int64_t> count(files, 0);
            std::map<std::pair<std::int64_t, std::int64_t>, std::set<std::int64_t>> places;  // of (file, epoch)
            for (std::int64_t i = 0; i < 3000; ++i) {
                for (std::size_t f = 0; f < files; ++f) {
                    BOOST_REQUIRE(order.count_before(i, f) == count[f]);
                    BOOST_REQUIRE(std::abs(count[f] - i * weights[f] / total) <= 1 + std::log2(files));
                }
                const Sequence s = order.sequence(i);
                const std::int64_t n = order.num_sequences(s.source), nth = count[s.source]++;
                BOOST_REQUIRE(s.epoch == nth / n);
                if (kind == SequenceOrder::sequential) BOOST_REQUIRE(s.first_token == nth % n * 4);
                BOOST_REQUIRE((places[{s.source, s.epoch}].insert(s.first_token).second));
            }
        }
    }
}

BOOST_AUTO_TEST_CASE(equal_weights_alternate) {
    const TemporaryFolder folder;
    const auto a = token_file(folder / "a.h5", {64}, 1), b = token_file(folder / "b.h5", {64}, 2);
    const DataOrder order({{a, 5}, {b, 5}}, 4, SequenceOrder::sequential, 0);
    for (std::int64_t i = 0; i < 50; ++i) BOOST_TEST(order.sequence(i).source == i % 2);
}

BOOST_AUTO_TEST_CASE(large_indices) {
    const TemporaryFolder folder;
    const auto a = token_file(folder / "a.h5", {64}, 1), b = token_file(folder / "b.h5", {640}, 2);
    const DataOrder order({{a, 1}, {b, 2}}, 4, SequenceOrder::shuffle, 0);
    const std::int64_t far = std::int64_t{1} << 40;
    for (std::int64_t i = far; i < far + 100; ++i) {
        const Sequence s = order.sequence(i);
        BOOST_TEST(order.count_before(i + 1, s.source) == order.count_before(i, s.source) + 1);
        BOOST_TEST(order.count_before(i, 0) + order.count_before(i, 1) == i);
    }
}

BOOST_AUTO_TEST_CASE(documents_of_a_sequence) {
    const TemporaryFolder folder;
    const std::vector<std::int64_t> lengths = {3, 0, 5, 1, 0, 0, 20, 8, 2, 7, 0};
    std::vector<std::int64_t> label;  // document of each token
    for (std::size_t d = 0; d < lengths.size(); ++d)
        label.insert(label.end(), lengths[d], static_cast<std::int64_t>(d));
    for (const std::int64_t context : {1, 2, 4, 5, 8, 46}) {
        const DataOrder order({{token_file(folder / text(context, ".h5"), lengths), 1}}, context,
                              SequenceOrder::sequential, 0);
        for (std::int64_t i = 0; i < order.num_sequences(0); ++i) {
            std::vector<std::int64_t> expected{0};
            for (std::int64_t t = 1; t < context; ++t)
                if (label[i * context + t] != label[i * context + t - 1]) expected.push_back(t);
            const auto found = order.document_starts(order.sequence(i));
            BOOST_TEST(found == expected, boost::test_tools::per_element());
        }
    }
}

BOOST_AUTO_TEST_CASE(content_hash_depends_on_content_and_not_on_paths) {
    const TemporaryFolder folder;
    const auto a = token_file(folder / "a.h5", {64}, 1), copy = token_file(folder / "copy.h5", {64}, 1),
               b = token_file(folder / "b.h5", {64}, 2);
    const auto hash = [](std::vector<DataSource> sources) {
        return DataOrder(std::move(sources), 4, SequenceOrder::shuffle, 0).content_hash();
    };
    BOOST_TEST(hash({{a, 1}}) == hash({{copy, 1}}));
    BOOST_TEST(hash({{a, 1}}) == hash({{a, 3}}));  // the proportion of a single file is always 100 %
    BOOST_TEST(hash({{a, 1}, {b, 2}}) == hash({{copy, 2}, {b, 4}}));
    BOOST_TEST(hash({{a, 1}}) != hash({{b, 1}}));
    BOOST_TEST(hash({{a, 1}, {b, 1}}) != hash({{a, 1}, {b, 2}}));
    BOOST_TEST(hash({{a, 1}, {b, 1}}) != hash({{b, 1}, {a, 1}}));
    BOOST_TEST(hash({{a, 1}, {a, 1}}) != hash({{a, 1}}));
}

BOOST_AUTO_TEST_CASE(refusals) {
    const TemporaryFolder folder;
    const auto a = token_file(folder / "a.h5", {64}, 1, 1000, "aa"), small = token_file(folder / "small.h5", {3}),
               wide = token_file(folder / "wide.h5", {64}, 1, 70000),
               other = token_file(folder / "other.h5", {64}, 1, 1000, "bb"),
               ready = token_file(folder / "ready.h5", {64});
    const auto refusal = [](std::vector<DataSource> sources, std::int64_t context) {
        return sentence_of([&] { DataOrder(std::move(sources), context, SequenceOrder::shuffle, 0); });
    };
    BOOST_TEST(refusal({{a, 1}}, 64) == "");
    BOOST_TEST(refusal({{a, 1}, {ready, 1}}, 64) == "");
    BOOST_TEST(says(refusal({{a, 1}}, 65), {"a.h5", "64 tokens", "65", "--context"}));
    BOOST_TEST(says(refusal({{a, 1}, {small, 1}}, 8), {"small.h5", "3 tokens", "8"}));
    BOOST_TEST(says(refusal({{a, 0}}, 8), {"a.h5", "weight 0"}));
    BOOST_TEST(says(refusal({{a, -1}}, 8), {"a.h5", "weight -1"}));
    BOOST_TEST(says(refusal({{a, std::nan("")}}, 8), {"a.h5", "weight"}));
    BOOST_TEST(says(refusal({{a, 1}, {wide, 1}}, 8), {"wide.h5", "70000", "1000"}));
    BOOST_TEST(says(refusal({{a, 1}, {other, 1}}, 8), {"other.h5", "different tokenizers"}));
    BOOST_TEST(says(refusal({}, 8), {"--data"}));
    BOOST_TEST(says(refusal({{a, 1}}, 0), {"--context"}));
    BOOST_TEST(says(sentence_of([] { sequence_order_of("random"); }), {"random", "shuffle", "sequential"}));
    for (const auto order : {SequenceOrder::sequential, SequenceOrder::shuffle})
        BOOST_TEST((sequence_order_of(std::string(name_of(order))) == order));
}

/// Later versions of the program must resume a run with the same order: these numbers are part of the checkpoint
/// format.
BOOST_AUTO_TEST_CASE(the_order_is_frozen) {
    const TemporaryFolder folder;
    const auto a = token_file(folder / "a.h5", {100}, 1), b = token_file(folder / "b.h5", {300}, 2);
    const DataOrder order({{a, 1}, {b, 3}}, 1, SequenceOrder::shuffle, 42);
    std::string found;
    for (std::int64_t i = 0; i < 12; ++i)
        found += text(order.sequence(i).source, ":", order.sequence(i).first_token, " ");
    for (std::int64_t i = 1000; i < 1004; ++i)
        found += text(order.sequence(i).source, ":", order.sequence(i).first_token, " ");
    BOOST_TEST(found == "1:167 0:98 1:172 1:18 1:170 0:57 1:55 1:13 1:269 0:60 1:228 1:33 1:185 0:16 1:113 1:283 ");
}

BOOST_AUTO_TEST_SUITE_END()
