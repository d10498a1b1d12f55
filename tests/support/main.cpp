// The main function of every test program: it starts MPI and runs Boost.Test. Rank 0 reports everything, the other
// ranks report only errors. At the end rank 0 prints 'N passed, N failed, N skipped', which tests/run.sh adds up: the
// test cases of the rank with the most failures and skips. Only rank 0 prints this line, and a line break before it,
// since mpirun may mix the output of two ranks within a line. The exit code is the highest one of all ranks.
#define BOOST_TEST_NO_MAIN
#define BOOST_TEST_ALTERNATIVE_INIT_API
#include <mpi.h>

#include <algorithm>
#include <array>
#include <boost/test/included/unit_test.hpp>
#include <cstdio>

namespace ut = boost::unit_test;

namespace {

// Takes the counts at the end of the run: Boost.Test removes its test suites before its main function returns.
struct Counts : ut::test_observer {
    std::array<unsigned long, 3> passed_failed_skipped{};
    bool finished = false;
    void test_finish() override {
        const ut::test_results& all = ut::results_collector.results(ut::framework::master_test_suite().p_id);
        const unsigned long failed = all.p_test_cases_failed + all.p_test_cases_aborted,
                            skipped = all.p_test_cases_skipped;
        passed_failed_skipped = {all.p_test_cases_passed + all.p_test_cases_warned, failed, skipped};
        finished = true;
    }
    int priority() override { return 100; }  // after the results_collector
};
Counts counts;

bool initialise() {
    ut::framework::register_observer(counts);
    return true;
}

void report(int rank) {
    const auto [passed, failed, skipped] = counts.passed_failed_skipped;
    std::array<unsigned long, 2> mine{failed, skipped}, most{};
    const unsigned long cases = passed + failed + skipped;
    MPI_Reduce(mine.data(), most.data(), 2, MPI_UNSIGNED_LONG, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank || !counts.finished) return;
    std::printf("\n%lu passed, %lu failed, %lu skipped\n", cases - std::min(cases, most[0] + most[1]), most[0],
                most[1]);
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    int provided = 0, rank = 0, worst = 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank) ut::unit_test_log.set_threshold_level(ut::log_all_errors);
    const int code = ut::unit_test_main(&initialise, argc, argv);
    MPI_Allreduce(&code, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    report(rank);
    MPI_Finalize();
    return worst;
}
