// What ranks with GPUs may pin of their computers' memory, and which limits count. Whether a device pins it is the backend's.
#include "jobs/host_memory.h"

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <limits>

#include "io/file.h"
#include "tests/unit/io/io_testing.h"

using namespace longlora;

namespace {
constexpr std::int64_t kGiB = std::int64_t{1} << 30;
}

BOOST_AUTO_TEST_SUITE(host_memory)

BOOST_AUTO_TEST_CASE(nine_tenths_may_be_pinned_on_each_computer) {
    BOOST_TEST(pinned_memory_problem({{"a", 90 * kGiB, 100 * kGiB}}, true).empty());
    BOOST_TEST(pinned_memory_problem({{"a", 60 * kGiB, 100 * kGiB}, {"b", 60 * kGiB, 100 * kGiB}}, true).empty());
    BOOST_TEST(pinned_memory_problem({{"a", 70 * kGiB, 100 * kGiB}, {"a", 20 * kGiB, 100 * kGiB}}, true).empty());   // one stage may take more than its share
    BOOST_TEST(!pinned_memory_problem({{"a", 91 * kGiB, 100 * kGiB}}, true).empty());
    BOOST_TEST(!pinned_memory_problem({{"a", 50 * kGiB, 100 * kGiB}, {"a", 41 * kGiB, 102 * kGiB}}, true).empty());   // the least that is seen counts
}

BOOST_AUTO_TEST_CASE(the_sentence_has_numbers_and_ways_out) {
    const PinnedShare little{"node1", kGiB, 100 * kGiB}, much{"node2", 50 * kGiB, 100 * kGiB};
    const std::string sentence = pinned_memory_problem({little, much, little, much}, true);
    for (const char* part : {"2 rank(s) on node2 need 100.0 GiB", "of the 100.0 GiB", "may take 90.0 GiB", "fewer ranks", "--mem", "--offload activations"})
        BOOST_TEST(sentence.find(part) != std::string::npos, sentence);
    BOOST_TEST(pinned_memory_problem({{"node1", kGiB, kGiB}}, false).find("--offload") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(limits_of_the_job_count) {
    constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
    const io_testing::Scratch folder;
    const auto write = [&](const std::string& path, const std::string& content) {
        std::filesystem::create_directories(std::filesystem::path(folder / path).parent_path());
        write_text_file(folder / path, content);
    };
    const std::string root = folder / "";
    write("slurm/job_7/memory.max", "5368709120\n");
    write("slurm/job_7/step_0/memory.max", "max\n");
    write("slurm/memory.max", "9663676416\n");
    BOOST_TEST(cgroup_limit_bytes("0::/slurm/job_7/step_0/task_0\n", root) == 5 * kGiB);
    BOOST_TEST(cgroup_limit_bytes("0::/slurm/other\n", root) == 9 * kGiB);
    BOOST_TEST(cgroup_limit_bytes("0::/\n", root) == kNone);
    BOOST_TEST(cgroup_limit_bytes("", root) == kNone);
    BOOST_TEST(cgroup_limit_bytes("nonsense\n7:\n0::\n", root) == kNone);
    write("memory/slurm/uid_0/job_8/memory.limit_in_bytes", "3221225472\n");
    BOOST_TEST(cgroup_limit_bytes("9:cpu,cpuacct:/slurm/uid_0/job_8\n4:memory:/slurm/uid_0/job_8/step_1\n0::/\n", root) == 3 * kGiB);
    BOOST_TEST(free_memory_bytes() > 0);
}

BOOST_AUTO_TEST_SUITE_END()
