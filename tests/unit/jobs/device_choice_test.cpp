// Which rank takes which GPU: every way in which launchers show GPUs to ranks, sets of GPUs that cannot be distributed,
// and models that GPUs cannot compute. Computing on GPUs is tested by tests/sim and tests/gpu.
#include "jobs/process/device_choice.h"

#include <boost/test/unit_test.hpp>

#include "core/error.h"
#include "parallel/agree.h"

using namespace longlora;

namespace {

using Lists = std::vector<std::vector<std::string>>;

std::string refusal(const Lists& seen) {
    try {
        assign_gpus(seen);
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
    BOOST_TEST((assign_gpus({one, one, other, one, other}) == std::vector<int>{0, 1, 0, 2, 1}));
    BOOST_TEST((assign_gpus({one}) == std::vector<int>{0}));  // two GPUs stay idle
}

/// With Slurm's --gpus-per-task or slurm/one_gpu.sh each rank sees only its own GPUs, numbered from 0.
BOOST_AUTO_TEST_CASE(ranks_with_gpus_of_their_own_take_the_first) {
    BOOST_TEST((assign_gpus({{"a"}, {"b"}, {"c"}}) == std::vector<int>{0, 0, 0}));
    BOOST_TEST((assign_gpus({{"a", "b"}, {"c", "d"}}) == std::vector<int>{0, 0}));
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

/// Two parts (MIG) of a GPU have different ids, but the same PCI address on the same node.
BOOST_AUTO_TEST_CASE(parts_of_one_gpu_are_not_given_to_two_ranks) {
    BOOST_CHECK_NO_THROW(require_whole_gpus(
        {{"node1", "aa@0:41:0"}, {"node1", "bb@0:42:0"}, {"node2", "cc@0:41:0"}, {"node2", "dd@0:42:0"}}));
    BOOST_CHECK_NO_THROW(require_whole_gpus({{"node1", "aa@0:41:0"}, {"node1", "bb@1:41:0"}}));  // another PCI domain
    BOOST_CHECK_NO_THROW(require_whole_gpus({{"node1", "aa@0:41:0"}}));                          // one part alone
    BOOST_CHECK_EXCEPTION(require_whole_gpus({{"node1", "aa@0:41:0"}, {"node2", "bb@0:42:0"}, {"node2", "cc@0:42:0"}}),
                          Error, [](const Error& e) {
                              const std::string sentence = e.what();
                              return e.code == ExitCode::bad_input &&
                                     sentence.find("ranks 1 and 2") != std::string::npos &&
                                     sentence.find("MIG") != std::string::npos &&
                                     sentence.find("0:42:0 on node2") != std::string::npos;
                          });
}

BOOST_AUTO_TEST_CASE(heads_that_gpus_do_not_support) {
    const DeviceChoice gpu{DeviceKind::cuda, 1, "GPU", ""};
    for (const std::int64_t head_dim : {8, 64, 120, 128})
        BOOST_TEST((choose_for_heads(gpu, "cuda", head_dim).kind == DeviceKind::cuda), head_dim);
    BOOST_TEST(choose_for_heads(gpu, "auto", 80).gpu == 1);
    for (const std::int64_t head_dim : {4, 20, 100, 136, 256}) {
        const std::string part = "head_dim of " + std::to_string(head_dim);
        BOOST_CHECK_EXCEPTION(choose_for_heads(gpu, "cuda", head_dim), parallel::AgreedError, [&](const Error& e) {
            return e.code == ExitCode::bad_input && std::string(e.what()).find(part) != std::string::npos &&
                   std::string(e.what()).find("--device cpu") != std::string::npos;
        });
        const DeviceChoice instead = choose_for_heads(gpu, "auto", head_dim);
        BOOST_TEST((instead.kind == DeviceKind::cpu && instead.note.find("computing on CPUs") == 0), instead.note);
        BOOST_TEST(instead.note.find(part) != std::string::npos, instead.note);
        BOOST_TEST(choose_for_heads({}, "auto", head_dim).note.empty());
    }
}

BOOST_AUTO_TEST_SUITE_END()
