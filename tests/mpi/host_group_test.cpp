// HostGroup and agree() on as many ranks as mpirun started. Checks do not throw: a rank that left early would hang the
// others.
#include "parallel/host_group.h"

#include <boost/test/unit_test.hpp>

#include "core/error.h"
#include "parallel/agree.h"
#include "parallel/mpi_check.h"

using namespace longlora;
using namespace longlora::parallel;

namespace {

/// Exit code and sentence of the error that agree() throws; code -1 if it throws none.
std::pair<int, std::string> outcome_of(const HostGroup& group, const std::function<void()>& work) {
    try {
        agree(group, work);
    } catch (const Error& error) {
        return {static_cast<int>(error.code), error.what()};
    }
    return {-1, ""};
}

std::string on_rank(const HostGroup& group, const std::string& sentence, int rank) {
    return group.size() == 1 ? sentence : text(sentence, " (on rank ", rank, ")");
}

/// A string whose length and contents depend on the rank; rank 0's is empty, and rank 1's has zero bytes.
std::string bytes_of_rank(int rank) {
    return std::string(static_cast<std::size_t>(rank * rank * 1000), static_cast<char>(rank - 1));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(host_group)

BOOST_AUTO_TEST_CASE(knows_its_place) {
    const HostGroup group;
    int rank = -1, size = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    BOOST_CHECK_EQUAL(group.rank(), rank);
    BOOST_CHECK_EQUAL(group.size(), size);
    BOOST_CHECK(group.node_rank() >= 0 && group.node_rank() < group.node_size() && group.node_size() <= size);
    BOOST_CHECK(group.handle() != MPI_COMM_WORLD);
    group.barrier();
}

BOOST_AUTO_TEST_CASE(gathers_and_broadcasts_strings) {
    const HostGroup group;
    const auto all = group.all_gather(bytes_of_rank(group.rank()));
    BOOST_CHECK_EQUAL(all.size(), static_cast<std::size_t>(group.size()));
    for (int r = 0; r < group.size(); ++r) {
        BOOST_CHECK(all[static_cast<std::size_t>(r)] == bytes_of_rank(r));
        BOOST_CHECK(group.broadcast(bytes_of_rank(group.rank()), r) == bytes_of_rank(r));
    }
}

BOOST_AUTO_TEST_CASE(any_and_all) {
    const HostGroup group;
    const bool last = group.rank() == group.size() - 1;
    BOOST_CHECK(group.any(last) && !group.any(false) && group.all(true));
    BOOST_CHECK_EQUAL(group.all(last), group.size() == 1);
}

BOOST_AUTO_TEST_CASE(no_rank_fails) {
    const HostGroup group;
    int done = 0;
    BOOST_CHECK_EQUAL(outcome_of(group, [&] { ++done; }).first, -1);
    BOOST_CHECK_EQUAL(done, 1);
}

BOOST_AUTO_TEST_CASE(any_single_rank_may_fail) {
    const HostGroup group;
    for (int bad = 0; bad < group.size(); ++bad) {
        const auto outcome = outcome_of(group, [&] {
            if (group.rank() == bad) fail(text("file of rank ", bad, " is missing"), ExitCode::does_not_fit);
        });
        BOOST_CHECK_EQUAL(outcome.first, static_cast<int>(ExitCode::does_not_fit));
        BOOST_CHECK_EQUAL(outcome.second, on_rank(group, text("file of rank ", bad, " is missing"), bad));
    }
}

BOOST_AUTO_TEST_CASE(the_lowest_failing_rank_speaks) {
    const HostGroup group;
    const int first = group.size() > 1 ? 1 : 0;  // rank 0 succeeds when there are other ranks
    const auto outcome = outcome_of(group, [&] {
        if (group.rank() >= first)
            fail(text("rank ", group.rank()), group.rank() == first ? ExitCode::bad_input : ExitCode::non_finite);
    });
    BOOST_CHECK_EQUAL(outcome.first, static_cast<int>(ExitCode::bad_input));
    BOOST_CHECK_EQUAL(outcome.second, on_rank(group, text("rank ", first), first));
}

BOOST_AUTO_TEST_CASE(other_exceptions_are_internal_errors) {
    const HostGroup group;
    const int last = group.size() - 1;
    const auto standard = outcome_of(group, [&] {
        if (group.rank() == last) throw std::out_of_range("beyond the end");
    });
    BOOST_CHECK_EQUAL(standard.first, static_cast<int>(ExitCode::internal));
    BOOST_CHECK_EQUAL(standard.second, on_rank(group, "beyond the end", last));
    const auto unknown = outcome_of(group, [&] {
        if (group.rank() == 0) throw 7;
    });
    BOOST_CHECK_EQUAL(unknown.first, static_cast<int>(ExitCode::internal));
    BOOST_CHECK(!unknown.second.empty());
}

BOOST_AUTO_TEST_CASE(an_error_of_mpi_comes_back) {
    const HostGroup group;
    char byte = 0;
    // There is no such rank. By MPI's default, the program would abort here.
    BOOST_CHECK(MPI_Send(&byte, 1, MPI_BYTE, group.size() + 5, 0, group.handle()) != MPI_SUCCESS);
    BOOST_CHECK_EXCEPTION(check_mpi(MPI_ERR_RANK, "MPI_Send", 3), Error, [](const Error& error) {
        const std::string sentence = error.what();
        return error.code == ExitCode::communication && sentence.find("rank 3") != std::string::npos &&
               sentence.find("MPI_Send") != std::string::npos;
    });
}

BOOST_AUTO_TEST_CASE(exchanges_bytes_of_each_pair) {
    const HostGroup group;
    const auto bytes_between = [](int from, int to) { return std::int64_t{7} * (from + 1) * to + from; };
    std::vector<std::int64_t> bytes_to, bytes_from;
    std::string out, expected;
    for (int r = 0; r < group.size(); ++r) {
        bytes_to.push_back(bytes_between(group.rank(), r));
        bytes_from.push_back(bytes_between(r, group.rank()));
        out.append(bytes_to.back(), static_cast<char>('a' + group.rank() + 3 * r));
        expected.append(bytes_from.back(), static_cast<char>('a' + r + 3 * group.rank()));
    }
    std::string in(expected.size(), ' ');
    group.exchange(out.data(), bytes_to, in.data(), bytes_from);
    BOOST_CHECK(in == expected);
}

BOOST_AUTO_TEST_CASE(knows_its_node) { BOOST_CHECK(HostGroup().node() == 0); }  // all ranks are on one computer

BOOST_AUTO_TEST_SUITE_END()
