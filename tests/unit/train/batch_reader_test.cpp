// Batches that are read ahead equal those of the data order, for any division among ranks and from any step on. With a
// document mask they count no prediction of a document's first token. A failure is reported at the step that it belongs
// to.
#include "train/batch_reader.h"

#include <boost/test/unit_test.hpp>

#include "model/micro_batch.h"
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
                    std::make_unique<BatchReader>(order, BatchSlice{kBatch, share, {0, 7}, true}, first_step, kSteps));
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
    const ReadBatch whole = read_batch(order, {9, {3, 5}, {0, 11}}, 1);
    BOOST_TEST((whole.sequences == std::vector<std::int64_t>{3, 4, 5, 6, 7}));
    BOOST_TEST(whole.num_predictions == 9 * 10);  // of the whole global batch
    BOOST_TEST(whole.document_starts.empty());
    for (int ranks = 1; ranks <= 11; ++ranks)
        for (int rank = 0; rank < ranks; ++rank) {
            const parallel::Shard local = parallel::even_share_of(11, rank, ranks);
            const ReadBatch part = read_batch(order, {9, {3, 5}, local}, 1);
            BOOST_REQUIRE(part.tokens.size() == static_cast<std::size_t>(5 * local.count) &&
                          part.labels.size() == part.tokens.size());
            for (std::int64_t s = 0; s < 5; ++s)
                for (std::int64_t t = 0; t < local.count; ++t) {
                    const std::int64_t at = local.begin + t;
                    BOOST_REQUIRE_EQUAL(part.tokens[s * local.count + t], whole.tokens[11 * s + at]);
                    BOOST_REQUIRE_EQUAL(part.labels[s * local.count + t],
                                        at == 10 ? -1 : whole.tokens[11 * s + at + 1]);
                }
            BOOST_TEST(part.num_predictions == whole.num_predictions);
        }
}

/// Every division of data and sequences among ranks has the labels of the definition, and on every rank the number of
/// labels that all ranks together count. Documents of one token, empty documents, documents that begin with a sequence,
/// and sequences without a prediction (the documents at tokens 120 to 141 have one token each).
BOOST_AUTO_TEST_CASE(no_document_predicts_the_next_one) {
    const TemporaryFolder folder;
    std::vector<std::int64_t> lengths = {30, 5, 0, 1, 1, 40, 43};
    lengths.insert(lengths.end(), 22, 1);
    lengths.push_back(37);
    const auto file = token_file(folder / "a.h5", lengths);
    std::vector<std::int32_t> tokens;
    std::vector<bool> begins;
    for (const auto& document : documents_of(lengths, 1000, 1))
        for (std::size_t t = 0; t < document.size(); ++t) tokens.push_back(document[t]), begins.push_back(t == 0);
    constexpr std::int64_t kLength = 10, kBatch = 3;
    const DataOrder order({{file, 1}}, kLength, SequenceOrder::shuffle, 1);
    BOOST_TEST(order.has_predictions_in_documents(0));
    std::int64_t least = 1000;
    for (int data = 1; data <= 4; ++data)
        for (int ranks = 1; ranks <= kLength; ++ranks)
            for (std::int64_t step = 1; step <= 7; ++step) {
                std::int64_t counted = 0, said = 0;
                for (int i = 0; i < data; ++i)
                    for (int rank = 0; rank < ranks; ++rank) {
                        const parallel::Shard local = parallel::even_share_of(kLength, rank, ranks);
                        const ReadBatch batch =
                            read_batch(order, {kBatch, parallel::even_share_of(kBatch, i, data), local, true}, step);
                        said = batch.num_predictions;
                        for (std::int64_t s = 0; s < batch.num_sequences(); ++s)
                            for (std::int64_t t = 0; t < local.count; ++t) {
                                const std::int64_t at = local.begin + t,
                                                   next = order.sequence(batch.sequences[s]).first_token + at + 1;
                                const bool counts = at + 1 < kLength && !begins[next];
                                counted += counts;
                                BOOST_REQUIRE_EQUAL(batch.labels[s * local.count + t], counts ? tokens[next] : -1);
                            }
                        for (std::int64_t s = 0; s < batch.num_sequences(); ++s)
                            least = std::min(least, std::int64_t{num_predictions(kLength, batch.document_starts[s])});
                    }
                BOOST_REQUIRE_EQUAL(said, counted);
            }
    BOOST_TEST(least == 0);
}

BOOST_AUTO_TEST_CASE(documents_without_any_prediction) {
    const TemporaryFolder folder;
    const auto has_predictions = [&](const std::vector<std::int64_t>& lengths, std::int64_t context) {
        const auto file = token_file(folder / text(lengths.size(), "-", context, ".h5"), lengths);
        return DataOrder({{file, 1}}, context, SequenceOrder::sequential, 0).has_predictions_in_documents(0);
    };
    BOOST_TEST(!has_predictions(std::vector<std::int64_t>(40, 1), 8));
    std::vector<std::int64_t> last_is_cut(40, 1);
    last_is_cut.push_back(7);  // the last whole sequence ends with token 39
    BOOST_TEST(!has_predictions(last_is_cut, 8));
    last_is_cut.push_back(1);
    BOOST_TEST(has_predictions(last_is_cut, 8));
    BOOST_TEST(!has_predictions({1, 2, 2, 2, 1}, 2));  // sequences cut every document
    BOOST_TEST(has_predictions({1, 2, 2, 2, 1}, 3));
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
