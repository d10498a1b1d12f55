// How much host memory the ranks on a node may pin for their GPUs. The allocation itself belongs to kernels/cuda.
#include "jobs/process/pinned_memory.h"

#include <boost/test/unit_test.hpp>

using namespace longlora;

namespace {
constexpr std::int64_t kGiB = std::int64_t{1} << 30;
}

BOOST_AUTO_TEST_SUITE(pinned_memory)

BOOST_AUTO_TEST_CASE(nine_tenths_may_be_pinned_on_each_node) {
    BOOST_TEST(pinned_memory_problem({{"a", 90 * kGiB, 100 * kGiB}}, true).empty());
    BOOST_TEST(pinned_memory_problem({{"a", 60 * kGiB, 100 * kGiB}, {"b", 60 * kGiB, 100 * kGiB}}, true).empty());
    // A rank may pin more than its share.
    BOOST_TEST(pinned_memory_problem({{"a", 70 * kGiB, 100 * kGiB}, {"a", 20 * kGiB, 100 * kGiB}}, true).empty());
    BOOST_TEST(!pinned_memory_problem({{"a", 91 * kGiB, 100 * kGiB}}, true).empty());
    // The smallest memory that a rank of the node reports is the limit.
    BOOST_TEST(!pinned_memory_problem({{"a", 50 * kGiB, 100 * kGiB}, {"a", 41 * kGiB, 102 * kGiB}}, true).empty());
}

BOOST_AUTO_TEST_CASE(the_sentence_has_numbers_and_ways_out) {
    const PinnedShare little{"node1", kGiB, 100 * kGiB}, much{"node2", 50 * kGiB, 100 * kGiB};
    const std::string sentence = pinned_memory_problem({little, much, little, much}, true);
    for (const char* part : {"2 rank(s) on node2 need 100.0 GiB", "of the 100.0 GiB", "may take 90.0 GiB",
                             "fewer ranks", "--mem", "--offload activations"})
        BOOST_TEST(sentence.find(part) != std::string::npos, sentence);
    BOOST_TEST(pinned_memory_problem({{"node1", kGiB, kGiB}}, false).find("--offload") == std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
