// Whose GPU is which: every way in which launchers show GPUs to ranks, and what cannot be dealt. Whether devices work on them is tests/sim's.
#include "jobs/device_choice.h"

#include <boost/test/unit_test.hpp>

#include "core/error.h"

using namespace longlora;

namespace {

using Lists = std::vector<std::vector<std::string>>;

std::string refusal(const Lists& seen) {
    try {
        deal_gpus(seen);
    } catch (const Error& e) {
        BOOST_TEST((e.code == ExitCode::bad_input));
        return e.what();
    }
    return "";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_choice)

/// mpirun on two nodes: each rank sees all GPUs of its node.
BOOST_AUTO_TEST_CASE(ranks_that_see_all_of_a_node_take_them_in_turn) {
    const std::vector<std::string> one{"a", "b", "c"}, other{"d", "e"};
    BOOST_TEST((deal_gpus({one, one, other, one, other}) == std::vector<int>{0, 1, 0, 2, 1}));
    BOOST_TEST((deal_gpus({one}) == std::vector<int>{0}));   // two stay idle
}

/// Slurm's --gpus-per-task, slurm/one_gpu.sh: each rank sees its own ones, which have number 0 on.
BOOST_AUTO_TEST_CASE(ranks_with_gpus_of_their_own_take_the_first) {
    BOOST_TEST((deal_gpus({{"a"}, {"b"}, {"c"}}) == std::vector<int>{0, 0, 0}));
    BOOST_TEST((deal_gpus({{"a", "b"}, {"c", "d"}}) == std::vector<int>{0, 0}));
}

BOOST_AUTO_TEST_CASE(more_ranks_than_gpus_are_refused) {
    const std::string sentence = refusal({{"a"}, {"b", "c"}, {"b", "c"}, {"b", "c"}});
    BOOST_TEST(sentence.find("3 ranks see only 2 GPU(s)") != std::string::npos, sentence);
    BOOST_TEST(refusal({{"a"}, {"a"}}).find("2 ranks see only 1 GPU(s)") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_gpu_is_never_shared) {
    const std::string sentence = refusal({{"a", "b"}, {"c"}, {"b", "a"}, {"a"}});
    BOOST_TEST(sentence.find("ranks 0 and 3 would share a GPU") != std::string::npos, sentence);
}

BOOST_AUTO_TEST_SUITE_END()
