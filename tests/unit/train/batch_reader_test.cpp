// Batches that are read ahead equal those of the data order, for any division among ranks and from any step on. A
// failure is reported at the step that it belongs to.
#include "train/batch_reader.h"

#include <boost/test/unit_test.hpp>

#include "parallel/mesh.h"
#include "train_testing.h"

using namespace longlora;
using namespace train_testing;

BOOST_AUTO_TEST_SUITE(batch_reader)

BOOST_AUTO_TEST_CASE(any_number_of_ranks_reads_the_same) {
    const TemporaryFolder folder;
    const std::vector<std::int64_t> lengths = {30, 5, 0, 90, 41};
    const auto file = token_file(folder / "a.h5", lengths), second = token_file(folder / "b.h5", {77}, 2);
    std::vector<std::int32_t> tokens[2];
    for (const auto& d : documents_of(lengths, 1000, 1)) tokens[0].insert(tokens[0].end(), d.begin(), d.end());
    tokens[1] = documents_of({77}, 1000, 2)[0];
    const DataOrder order({{file, 2}, {second, 1}}, 7, SequenceOrder::shuffle, 1);
    constexpr std::int64_t kBatch = 5, kSteps = 9;
    for (int ranks = 1; ranks <= 7; ++ranks) {  // 6 and 7: some ranks have no sequence
        for (const std::int64_t first_step : {1, 4}) {
            std::vector<std::unique_ptr<BatchReader>> readers;
            for (int r = 0; r < ranks; ++r) {
                const auto share = parallel::even_share_of(kBatch, r, ranks);
                readers.push_back(
                    std::make_unique<BatchReader>(order, BatchSlice{kBatch, share, {0, 7}}, first_step, kSteps));
            }
            for (std::int64_t step = first_step; step <= kSteps; ++step) {
                std::int64_t next = (step - 1) * kBatch;
                for (auto& reader : readers) {
                    const ReadBatch batch = reader->next();
                    BOOST_TEST(batch.step == step);
                    BOOST_REQUIRE(batch.tokens.size() == static_cast<std::size_t>(7 * batch.num_sequences()));
                    BOOST_REQUIRE(batch.document_starts.size() == batch.sequences.size());
                    for (std::int64_t s = 0; s < batch.num_sequences(); ++s, ++next) {
                        BOOST_TEST(batch.sequences[s] == next);
                        const Sequence sequence = order.sequence(next);
                        BOOST_TEST(batch.document_starts[s] == order.document_starts(sequence),
                                   boost::test_tools::per_element());
                        for (std::int64_t t = 0; t < 7; ++t)
                            BOOST_REQUIRE(batch.tokens[7 * s + t] == tokens[sequence.source][sequence.first_token + t]);
                    }
                }
                BOOST_TEST(next == step * kBatch);
            }
            BOOST_CHECK_THROW(readers[0]->next(), std::logic_error);
        }
    }
}

/// Every sequence rank gets its own part of the tokens. Its last label is the first token of the next rank's part.
BOOST_AUTO_TEST_CASE(any_number_of_ranks_may_share_a_sequence) {
    const TemporaryFolder folder;
    const DataOrder order({{token_file(folder / "a.h5", {70, 31}), 1}}, 11, SequenceOrder::shuffle, 1);
    const ReadBatch whole = read_batch(order, {3, 5}, {0, 11});
    for (int ranks = 1; ranks <= 11; ++ranks)
        for (int rank = 0; rank < ranks; ++rank) {
            const parallel::Shard local = parallel::even_share_of(11, rank, ranks);
            const ReadBatch part = read_batch(order, {3, 5}, local);
            BOOST_REQUIRE(part.tokens.size() == static_cast<std::size_t>(5 * local.count) &&
                          part.labels.size() == part.tokens.size());
            for (std::int64_t s = 0; s < 5; ++s)
                for (std::int64_t t = 0; t < local.count; ++t) {
                    const std::int64_t at = local.begin + t;
                    BOOST_REQUIRE_EQUAL(part.tokens[s * local.count + t], whole.tokens[11 * s + at]);
                    BOOST_REQUIRE_EQUAL(part.labels[s * local.count + t],
                                        at == 10 ? -1 : whole.tokens[11 * s + at + 1]);
                }
            BOOST_TEST(part.document_starts == whole.document_starts);
        }
}

BOOST_AUTO_TEST_CASE(stops_without_being_read) {
    const TemporaryFolder folder;
    const DataOrder order({{token_file(folder / "a.h5", {100}), 1}}, 7, SequenceOrder::shuffle, 1);
    for (int i = 0; i < 50; ++i) BatchReader(order, {4, {0, 4}, {0, 7}}, 1, 1000000000);
    BatchReader none(order, {4, {0, 4}, {0, 7}}, 11, 10);  // a finished run
    BOOST_CHECK_THROW(none.next(), std::logic_error);
}

BOOST_AUTO_TEST_CASE(damage_is_reported_at_its_step) {
    const TemporaryFolder folder;
    constexpr std::int64_t kTokens = 3 << 19;  // uint16: three blocks of 1 MiB
    const auto made = token_file(folder / "a.h5", {kTokens});
    const NamedTensorReader layout(folder / "a.h5", kTokenFileFormat, kTokenFileVersion);
    flip_bit(folder / "a.h5", layout.entry("tokens").offset + (1 << 20) + 5);  // in the second block
    const DataOrder order({{std::make_shared<const TokenFile>(folder / "a.h5"), 1}}, 1 << 18, SequenceOrder::sequential,
                          1);
    BatchReader reader(order, {1, {0, 1}, {0, 1 << 18}}, 1, 6);
    for (std::int64_t step = 1; step <= 2; ++step) BOOST_TEST(reader.next().step == step);
    for (int i = 0; i < 2; ++i) BOOST_TEST(says(sentence_of([&] { reader.next(); }), {"a.h5", "damaged"}));
}

BOOST_AUTO_TEST_SUITE_END()
