// Labels and counted predictions of a sequence with documents, against the definition token by token: a token is
// predicted if the token before it belongs to the same sequence and, with a document mask, to the same document. Also
// for the parts of ranks that share the sequence.
#include "model/micro_batch.h"

#include <boost/test/unit_test.hpp>

using namespace longlora;

namespace {

using Places = std::vector<std::int64_t>;

constexpr std::int64_t kLength = 12;

std::vector<std::int32_t> tokens() {
    std::vector<std::int32_t> out;
    for (std::int64_t t = 0; t < kLength; ++t) out.push_back(static_cast<std::int32_t>(100 + t));
    return out;
}

std::vector<std::int32_t> expected_labels(const Places& begins) {
    std::vector<std::int32_t> out;
    for (std::int64_t t = 1; t <= kLength; ++t) {
        const bool begins_document = std::find(begins.begin(), begins.end(), t) != begins.end();
        out.push_back(t == kLength || begins_document ? -1 : tokens()[static_cast<std::size_t>(t)]);
    }
    return out;
}

/// One document, documents of one token, at both ends, that began before the sequence, and empty ones.
const std::vector<Places> kDocuments = {{},
                                        {0},
                                        {0, 1},
                                        {0, 11},
                                        {0, 4, 5, 6},
                                        {-9, -1, 3, 8},
                                        {0, 5, 5, 5, 9, 12},
                                        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}};

}  // namespace

BOOST_AUTO_TEST_SUITE(micro_batches)

BOOST_AUTO_TEST_CASE(no_document_predicts_the_next_one) {
    for (const Places& begins : kDocuments) {
        const auto labels = next_token_labels(tokens(), begins), expected = expected_labels(begins);
        BOOST_TEST(labels == expected, boost::test_tools::per_element());
        const auto counted = std::count_if(expected.begin(), expected.end(), [](std::int32_t x) { return x >= 0; });
        BOOST_TEST(num_predictions(kLength, begins) == counted);
    }
    BOOST_TEST(num_predictions(kLength) == kLength - 1);
    BOOST_TEST(num_predictions(1) == 0);
    BOOST_TEST(next_token_labels({}).empty());
}

BOOST_AUTO_TEST_CASE(parts_of_ranks_leave_out_the_same) {
    for (const Places& begins : kDocuments)
        for (int ranks = 1; ranks <= kLength; ++ranks) {
            std::vector<std::int32_t> whole;
            for (int rank = 0; rank < ranks; ++rank) {
                const parallel::Shard own = parallel::even_share_of(kLength, rank, ranks);
                auto labels = local_part(next_token_labels(tokens()), kLength, own);
                leave_out_document_begins(labels, own, begins);
                whole.insert(whole.end(), labels.begin(), labels.end());
            }
            BOOST_TEST(whole == expected_labels(begins), boost::test_tools::per_element());
        }
}

BOOST_AUTO_TEST_SUITE_END()
