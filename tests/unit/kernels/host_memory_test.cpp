// Which memory limits (cgroups of a job or a container) apply to a process.
#include "kernels/host_memory.h"

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

BOOST_AUTO_TEST_CASE(limits_of_the_job_apply) {
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
    BOOST_TEST(cgroup_limit_bytes("9:cpu,cpuacct:/slurm/uid_0/job_8\n4:memory:/slurm/uid_0/job_8/step_1\n0::/\n",
                                  root) == 3 * kGiB);
    write("memory.max", "2147483648\n");  // as a container sees its own limit
    BOOST_TEST(cgroup_limit_bytes("0::/slurm/job_7\n", root) == 2 * kGiB);
    BOOST_TEST(cgroup_limit_bytes("0::/not/there\n", root) == 2 * kGiB);
    BOOST_TEST((free_memory_bytes() > 0 && host_memory_bytes() > 0));
}

BOOST_AUTO_TEST_SUITE_END()
