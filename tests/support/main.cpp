// The main function of every test program: it starts MPI and runs Boost.Test. Rank 0 reports everything, the other
// ranks report only errors, and every rank returns the highest exit code of all ranks.
#define BOOST_TEST_NO_MAIN
#define BOOST_TEST_ALTERNATIVE_INIT_API
#include <mpi.h>

#include <boost/test/included/unit_test.hpp>

static bool initialise() { return true; }

int main(int argc, char** argv) {
    int provided = 0, rank = 0, worst = 0;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank) boost::unit_test::unit_test_log.set_threshold_level(boost::unit_test::log_all_errors);
    const int code = boost::unit_test::unit_test_main(&initialise, argc, argv);
    MPI_Allreduce(&code, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Finalize();
    return worst;
}
