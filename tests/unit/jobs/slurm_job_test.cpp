// How the answers of scontrol are read, as Slurm 22.05 words them. Jobs on a real Slurm are tested by tests/slurm.
#include "jobs/process/slurm_job.h"

#include <boost/test/unit_test.hpp>

using namespace longlora;

BOOST_AUTO_TEST_SUITE(slurm_job)

BOOST_AUTO_TEST_CASE(answers_of_scontrol) {
    const auto answer = [](const std::string& state, int restarts) {
        return "JobId=12 JobName=train UserId=a(1) JobState=" + state +
               " Reason=None Dependency=(null) Requeue=1 Restarts=" + std::to_string(restarts) +
               " BatchFlag=1 ExitCode=0:0\n";
    };
    for (const char* over : {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY",
                             "DEADLINE", "BOOT_FAIL"})
        BOOST_TEST(answer_says_ended(answer(over, 1), "1"), over);
    for (const char* not_yet : {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED"})
        BOOST_TEST(!answer_says_ended(answer(not_yet, 1), "1"), not_yet);
    BOOST_TEST(answer_says_ended(answer("PENDING", 2), "1"));  // requeued in the meantime
    BOOST_TEST(answer_says_ended(answer("RUNNING", 2), "1"));
    BOOST_TEST(!answer_says_ended(answer("COMPLETING", 2), "1"));  // its processes may still exist
    BOOST_TEST(answer_says_ended("slurm_load_jobs error: Invalid job id specified\n", "0"));
    BOOST_TEST(
        !answer_says_ended("slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", "0"));
    BOOST_TEST(!answer_says_ended("", "0"));
}

BOOST_AUTO_TEST_CASE(restarts_of_the_same_job) {
    LockHolder holder;
    holder.job = {"c", "12", "1"};
    BOOST_TEST(slurm_says_ended(holder, {"c", "12", "2"}));
    BOOST_TEST(!slurm_says_ended(holder, {"c", "12", "1"}));
    BOOST_TEST(!slurm_says_ended(holder, {"c", "12", "0"}));  // this is an earlier restart, which was taken for dead
    BOOST_TEST(!slurm_says_ended(holder, {"other", "12", "2"}));
    BOOST_TEST(!slurm_says_ended(holder, {}));
    holder.job.id = "12; rm -rf /";  // a lock file is untrusted input
    BOOST_TEST(!slurm_says_ended(holder, {"c", "13", "0"}));
}

BOOST_AUTO_TEST_SUITE_END()
