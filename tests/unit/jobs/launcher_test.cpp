// The number of ranks that a launcher promised, read from environment variables as Slurm 22.05, Open MPI and others set
// them, and the refusal of processes that MPI did not connect. Launchers themselves are tested by tests/slurm.
#include "jobs/process/launcher.h"

#include <boost/test/unit_test.hpp>

#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

using Variables = std::map<std::string, std::string>;

Launch launch_with(const Variables& variables) {
    return launch_of_environment([&](const char* name) {
        const auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
    });
}

/// What srun sets for a task of a step with 4 tasks.
const Variables kTask{{"SLURM_JOB_ID", "77"}, {"SLURM_NTASKS", "4"}, {"SLURM_STEP_ID", "0"},
                      {"SLURM_STEPID", "0"},  {"SLURM_PROCID", "2"}, {"SLURM_STEP_NUM_TASKS", "4"},
                      {"SLURM_LOCALID", "0"}, {"SLURM_NPROCS", "4"}};

Variables changed(Variables variables, const Variables& changes) {
    for (const auto& [name, value] : changes)
        if (value.empty()) variables.erase(name);
        else variables[name] = value;
    return variables;
}

Words with_variables(const Variables& variables, const Words& words) {
    Words out{"env"};
    for (const auto& [name, value] : variables) out.push_back(name + "=" + value);
    return out + words;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(launcher)

BOOST_AUTO_TEST_CASE(tasks_of_srun) {
    BOOST_TEST(launch_with(kTask).ranks == 4);
    BOOST_TEST(launch_with(kTask).launcher == "srun");
    BOOST_TEST(launch_with(changed(kTask, {{"SLURM_STEP_ID", ""}})).ranks == 4);          // the older name
    BOOST_TEST(launch_with(changed(kTask, {{"SLURM_STEP_NUM_TASKS", ""}})).ranks == 4);   // from SLURM_NTASKS
    BOOST_TEST(launch_with(changed(kTask, {{"SLURM_STEP_NUM_TASKS", "2"}})).ranks == 2);  // a step of some tasks
    BOOST_TEST(launch_with(changed(kTask, {{"SLURM_STEP_NUM_TASKS", "many"}, {"SLURM_NTASKS", "-4"}})).ranks == 1);
}

/// Of these processes there is only one, whatever SLURM_NTASKS says about the job.
BOOST_AUTO_TEST_CASE(shells_of_a_job) {
    const Variables batch = changed(
        kTask, {{"SLURM_STEP_ID", ""}, {"SLURM_STEPID", ""}, {"SLURM_STEP_NUM_TASKS", ""}, {"SLURM_PROCID", "0"}});
    BOOST_TEST(launch_with(batch).ranks == 1);
    for (const char* reserved : {"4294967290", "4294967291", "4294967292"})  // interactive, batch, extern
        BOOST_TEST(launch_with(changed(kTask, {{"SLURM_STEP_ID", reserved}, {"SLURM_STEPID", reserved}})).ranks == 1);
    BOOST_TEST(launch_with(changed(kTask, {{"SLURM_PROCID", ""}})).ranks == 1);
    BOOST_TEST(launch_with({}).ranks == 1);
    BOOST_TEST(launch_problem(launch_with(batch), 1) == "");
    BOOST_TEST(launch_problem(launch_with({}), 1) == "");
}

/// The ranks of mpirun inherit the variables of Slurm's step that started its daemon.
BOOST_AUTO_TEST_CASE(mpirun_inside_of_slurm) {
    const Launch launch = launch_with(changed(kTask, {{"OMPI_COMM_WORLD_SIZE", "2"}, {"PMIX_RANK", "1"}}));
    BOOST_TEST(launch.ranks == 2);
    BOOST_TEST(launch_problem(launch, 2) == "");
    BOOST_TEST(launch_problem(launch, 1).find("mpirun started 2 processes, but MPI sees 1") == 0u);
}

BOOST_AUTO_TEST_CASE(other_launchers) {
    BOOST_TEST(launch_with({{"PMI_SIZE", "3"}, {"PMI_RANK", "0"}}).ranks == 3);
    BOOST_TEST(launch_with({{"MV2_COMM_WORLD_SIZE", "3"}}).ranks == 3);
    BOOST_TEST(launch_with({{"JSM_NAMESPACE_SIZE", "3"}}).launcher == "jsrun");
    BOOST_TEST(launch_with({{"PMIX_RANK", "3"}, {"PMIX_NAMESPACE", "a"}}).ranks == 4);
    BOOST_TEST(launch_problem(launch_with({{"PMIX_RANK", "0"}}), 1) == "");
    BOOST_TEST(launch_problem(launch_with(kTask), 4) == "");
    BOOST_TEST(launch_problem(launch_with(kTask), 8) == "");  // tasks of several programs (srun a : b)
}

/// Commands that write are refused before anything is touched; those that only read, and --help, work.
BOOST_AUTO_TEST_CASE(the_program) {
    const Workshop shop;
    io_testing::spill(shop / "ids.jsonl", "{\"tokens\": [1, 2, 3]}\n");
    const Words prepare{"prepare", "x.h5", "ids.jsonl", "--vocabulary", "256"};
    const Words evaluate{"evaluate", "--model", "model", "--data", "data.h5", "--context", "64", "--json", "x.json"};
    shop.done(training("base", 2));
    const Words do_not_start[] = {training(),
                                  prepare,
                                  evaluate,
                                  {"export", "base", "merged"},
                                  {"plan", "--model", "model", "--context", "64", "--json", "x.json"}};
    for (const Words& words : do_not_start)
        shop.refused_as(with_variables(kTask, command(1, words)),
                        {"srun started 4 processes, but MPI sees 1 rank(s)", "'srun --mpi=pmix'", "mpirun"});
    const Words work[] = {{"status", "base"}, {"inspect", "data.h5"}, {"train", "--help"}, {"--help"}, {"--version"}};
    for (const Words& words : work)
        BOOST_TEST(Process(with_variables(kTask, command(1, words)), shop.path()).wait().code == 0, line_of(words));
    // A batch script; and two ranks of mpirun in a job of four tasks.
    const Variables batch = changed(kTask, {{"SLURM_STEP_ID", ""}, {"SLURM_STEPID", ""}, {"SLURM_STEP_NUM_TASKS", ""}});
    BOOST_TEST(Process(with_variables(batch, command(1, training("batch"))), shop.path()).wait().code == 0);
    const Words words = training("two"),
                launcher{"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-q", "-n", "2"};
    const Outcome two = Process(launcher + with_variables(kTask, Words{PROGRAM} + words), shop.path()).wait();
    BOOST_TEST(two.code == 0, two.err);
}

BOOST_AUTO_TEST_SUITE_END()
