// The pipeline schedule, played on all stages at once with the dependencies of a real step: a stage starts its next
// task as soon as the inputs of the task are there.
#include "parallel/pipeline_schedule.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>

#include "core/error.h"

using namespace longlora::parallel;

namespace {

struct Played {
    std::int64_t makespan = 0;
    std::vector<std::int64_t> most_alive, busy;                        ///< by stage
    std::vector<std::vector<std::int64_t>> forward_end, backward_end;  ///< [stage][micro-batch], -1 = never done
    bool finished = true, once = true;
};

/// Every stage works through its own list. A forward waits for the forward of the stage before; a backward waits for
/// the forward of its own stage and the backward of the stage behind.
Played play(int stages, std::int64_t micro_batches, std::int64_t forward_time, std::int64_t backward_time) {
    const auto num_stages = static_cast<std::size_t>(stages), m = static_cast<std::size_t>(micro_batches);
    Played out{0, std::vector<std::int64_t>(num_stages), std::vector<std::int64_t>(num_stages), {}, {}, true, true};
    out.forward_end.assign(num_stages, std::vector<std::int64_t>(m, -1));
    out.backward_end = out.forward_end;
    std::vector<std::vector<PipelineTask>> lists;
    for (int s = 0; s < stages; ++s) lists.push_back(one_forward_one_backward(stages, s, micro_batches));
    std::vector<std::size_t> at(num_stages);
    std::vector<std::int64_t> clock(num_stages), alive(num_stages);
    for (bool moved = true; moved;) {
        moved = false;
        for (std::size_t s = 0; s < num_stages; ++s)
            for (; at[s] < lists[s].size(); ++at[s], moved = true) {
                const PipelineTask task = lists[s][at[s]];
                const auto i = static_cast<std::size_t>(task.micro_batch);
                const bool forward = task.pass == Pass::forward;
                std::vector<std::int64_t> needed;  // end times of the tasks that this one needs
                if (!forward) needed.push_back(out.forward_end[s].at(i));
                if (!forward && s + 1 < num_stages) needed.push_back(out.backward_end[s + 1].at(i));
                if (forward && s > 0) needed.push_back(out.forward_end[s - 1].at(i));
                if (std::count(needed.begin(), needed.end(), -1)) break;
                needed.push_back(clock[s]);
                const std::int64_t time = forward ? forward_time : backward_time;
                std::int64_t& end = (forward ? out.forward_end : out.backward_end)[s][i];
                out.once &= end < 0;
                end = clock[s] = *std::max_element(needed.begin(), needed.end()) + time;
                out.busy[s] += time;
                alive[s] += forward ? 1 : -1;
                out.most_alive[s] = std::max(out.most_alive[s], alive[s]);
            }
    }
    for (std::size_t s = 0; s < num_stages; ++s) {
        out.finished &= at[s] == lists[s].size();
        for (std::size_t i = 0; i < m; ++i) out.finished &= out.forward_end[s][i] >= 0 && out.backward_end[s][i] >= 0;
        out.makespan = std::max(out.makespan, clock[s]);
    }
    return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(pipeline_schedule)

BOOST_AUTO_TEST_CASE(the_schedule_drawn_in_the_header) {
    const auto f = [](std::int64_t i) { return PipelineTask{Pass::forward, i}; };
    const auto b = [](std::int64_t i) { return PipelineTask{Pass::backward, i}; };
    BOOST_CHECK((one_forward_one_backward(4, 1, 6) ==
                 std::vector{f(0), f(1), f(2), b(0), f(3), b(1), f(4), b(2), f(5), b(3), b(4), b(5)}));
    BOOST_CHECK((one_forward_one_backward(4, 3, 2) == std::vector{f(0), b(0), f(1), b(1)}));
    BOOST_CHECK((one_forward_one_backward(4, 0, 2) == std::vector{f(0), f(1), b(0), b(1)}));
    const Played played = play(4, 6, 1, 1);
    BOOST_CHECK_EQUAL(played.makespan, 18);
    BOOST_CHECK_EQUAL(played.forward_end[0][4], 9);  // f4 of stage 0 is in the ninth column
    BOOST_CHECK_EQUAL(played.backward_end[2][3], 12);
}

BOOST_AUTO_TEST_CASE(every_task_once_and_never_stuck) {
    for (int stages = 1; stages <= 9; ++stages)
        for (std::int64_t micro_batches = 0; micro_batches <= 20; ++micro_batches)
            for (const auto& [forward, backward] : {std::pair{1, 1}, {1, 2}, {3, 8}, {5, 1}})
                BOOST_TEST_CONTEXT(stages << " stages, " << micro_batches << " micro-batches, forward " << forward
                                          << ", backward " << backward) {
                    const Played played = play(stages, micro_batches, forward, backward);
                    BOOST_CHECK(played.finished && played.once);
                    for (int s = 0; s < stages; ++s) {
                        BOOST_CHECK_EQUAL(one_forward_one_backward(stages, s, micro_batches).size(), 2 * micro_batches);
                        BOOST_CHECK_LE(played.most_alive[s], stages - s);
                        BOOST_CHECK_EQUAL(played.most_alive[s],
                                          std::min<std::int64_t>(micro_batches, stages - s));  // and reaches it
                    }
                }
}

BOOST_AUTO_TEST_CASE(idle_share_is_the_formula) {
    for (int stages = 1; stages <= 9; ++stages)
        for (std::int64_t micro_batches = 1; micro_batches <= 20; ++micro_batches)
            for (const auto& [forward, backward] : {std::pair{1, 1}, {1, 2}, {3, 8}, {5, 1}})
                BOOST_TEST_CONTEXT(stages << " stages, " << micro_batches << " micro-batches, forward " << forward
                                          << ", backward " << backward) {
                    const Played played = play(stages, micro_batches, forward, backward);
                    BOOST_CHECK_EQUAL(played.makespan, (micro_batches + stages - 1) * (forward + backward));
                    for (int s = 0; s < stages; ++s)
                        BOOST_CHECK_SMALL(1 - static_cast<double>(played.busy[s]) / played.makespan -
                                              bubble_share(stages, micro_batches),
                                          1e-12);
                }
}

BOOST_AUTO_TEST_CASE(edges) {
    BOOST_CHECK(one_forward_one_backward(3, 1, 0).empty());
    BOOST_CHECK_EQUAL(bubble_share(3, 0), 0);
    BOOST_CHECK_EQUAL(bubble_share(1, 5), 0);
    BOOST_CHECK_EQUAL(bubble_share(4, 1), 0.75);
    BOOST_CHECK_THROW(one_forward_one_backward(3, 3, 1), std::logic_error);
    BOOST_CHECK_THROW(one_forward_one_backward(3, -1, 1), std::logic_error);
    BOOST_CHECK_THROW(bubble_share(0, 1), std::logic_error);
}

BOOST_AUTO_TEST_SUITE_END()
