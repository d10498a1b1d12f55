// What ranks with GPUs may pin of their computers' memory. Whether a device pins it is the backend's.
#include "jobs/process/pinned_memory.h"

#include <boost/test/unit_test.hpp>

using namespace longlora;

namespace {
constexpr std::int64_t kGiB = std::int64_t{1} << 30;
}

BOOST_AUTO_TEST_SUITE(pinned_memory)

BOOST_AUTO_TEST_CASE(nine_tenths_may_be_pinned_on_each_computer) {
    BOOST_TEST(pinned_memory_problem({{"a", 90 * kGiB, 100 * kGiB}}, true).empty());
    BOOST_TEST(pinned_memory_problem({{"a", 60 * kGiB, 100 * kGiB}, {"b", 60 * kGiB, 100 * kGiB}}, true).empty());
    BOOST_TEST(pinned_memory_problem({{"a", 70 * kGiB, 100 * kGiB}, {"a", 20 * kGiB, 100 * kGiB}}, true)
                   .empty());  // one stage may take more than its share
    BOOST_TEST(!pinned_memory_problem({{"a", 91 * kGiB, 100 * kGiB}}, true).empty());
    BOOST_TEST(!pinned_memory_problem({{"a", 50 * kGiB, 100 * kGiB}, {"a", 41 * kGiB, 102 * kGiB}}, true)
                    .empty());  // the least that is seen counts
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
