// The files in which ranks write their heartbeats, and which ranks stand still according to two looks at these files.
#include "run/rank_files.h"

#include <boost/test/unit_test.hpp>

#include "tests/unit/train/train_testing.h"

using namespace longlora;
using namespace train_testing;

namespace {

RankState state(int rank, std::int64_t heartbeat_count, bool waiting, double idle) {
    return {rank, "t", text("n", rank), 100 + rank, heartbeat_count, 7, waiting, idle};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(rank_files)

BOOST_AUTO_TEST_CASE(written_and_read) {
    const TemporaryFolder folder;
    create_rank_folder(folder.path());
    write_rank_state(folder.path(), state(0, 5, false, 123456.75));
    write_rank_state(folder.path(), state(2, 6, true, 0));
    write_rank_state(folder.path(), state(0, 6, false, 0.5));  // shorter than the text before
    const std::vector<RankState> states = read_rank_states(folder.path(), "t", 4);
    BOOST_REQUIRE_EQUAL(states.size(), 2u);
    BOOST_TEST((states[0].rank == 0 && states[0].heartbeat_count == 6 && states[0].step == 7 && !states[0].waiting &&
                states[0].worked_seconds_ago == 0.5));
    BOOST_TEST((states[1].rank == 2 && states[1].host == "n2" && states[1].process == 102 && states[1].waiting));
    const FileHandle file = FileHandle::create(folder / "ranks/2");  // an incomplete file is no heartbeat
    file.write_at("{\"rank\"", 7, 0);
    BOOST_TEST(read_rank_states(folder.path(), "t", 4).size() == 1u);
    BOOST_TEST(read_rank_states(folder.path(), "another start", 4).empty());
}

BOOST_AUTO_TEST_CASE(ranks_that_stand_still) {
    const std::vector<RankState> before{state(0, 1, true, 9), state(1, 1, true, 9), state(2, 1, false, 0),
                                        state(3, 1, true, 9)};
    const auto after = [](std::int64_t beat_of_2, bool waits_2) {
        return std::vector<RankState>{state(0, 2, true, 20), state(1, 2, true, 20), state(2, beat_of_2, waits_2, 20),
                                      state(3, 2, true, 20)};
    };
    const auto sentence = [&](const std::vector<RankState>& now) {
        return find_stuck_ranks(before, now, 4, 5).sentence;
    };
    BOOST_TEST(sentence(after(1, false)) == "rank 2 on n2 (process 102) sends no heartbeat");
    BOOST_TEST(sentence(after(2, false)) == "rank 2 on n2 (process 102) makes no progress in its own work");
    BOOST_TEST(sentence(after(2, true)) == "every rank waits for another rank");
    std::vector<RankState> gone = after(2, false);
    gone.erase(gone.begin());  // rank 0's file is missing
    const Standstill both = find_stuck_ranks(before, gone, 4, 5);
    BOOST_TEST(
        both.sentence ==
        "rank 0 on n0 (process 100) sends no heartbeat; rank 2 on n2 (process 102) makes no progress in its own work");
    BOOST_TEST(both.reporting_rank == 1);
    BOOST_TEST(find_stuck_ranks({}, {}, 2, 5).reporting_rank == -1);
    BOOST_TEST(find_stuck_ranks({}, {}, 20, 5).sentence.find("rank 7 and 12 more send no heartbeat") !=
               std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
