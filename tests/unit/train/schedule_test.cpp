// Learning-rate schedules against the formulas of transformers (get_*_schedule_with_warmup), which are written here
// again. Our steps 1, 2, ... use the factors of their steps 1, 2, ...; theirs begin with step 0, so ours are one step
// later.
#include "train/schedule.h"

#include <boost/test/unit_test.hpp>

#include "train_testing.h"

using namespace longlora;
using namespace train_testing;

BOOST_AUTO_TEST_SUITE(schedule)

BOOST_AUTO_TEST_CASE(values_of_transformers) {
    for (const std::int64_t warmup : {0, 1, 2, 20, 50})
        for (const std::int64_t steps : {1, 50, 1000}) {
            for (std::int64_t k = 1; k <= steps + 3; ++k) {
                const double w = warmup, n = steps, s = k;  // their step counter, which starts at 0
                const double rising = s / std::max(1.0, w), done = (s - w) / std::max(1.0, n - w);
                const double linear = s < w ? rising : s == w ? 1 : std::max(0.0, (n - s) / std::max(1.0, n - w));
                const double cosine = s < w    ? rising
                                      : s == w ? 1
                                      : s >= n ? 0
                                               : std::max(0.0, 0.5 * (1 + std::cos(M_PI * done)));
                BOOST_TEST(schedule_factor({ScheduleKind::constant, warmup, steps}, k) == (s < w ? rising : 1.0));
                BOOST_TEST(std::abs(schedule_factor({ScheduleKind::linear, warmup, steps}, k) - linear) < 1e-15);
                BOOST_TEST(std::abs(schedule_factor({ScheduleKind::cosine, warmup, steps}, k) - cosine) < 1e-15);
                BOOST_TEST(std::abs(schedule_factor({ScheduleKind::cosine, warmup, steps, 0.1}, k) -
                                    (s <= w ? std::min(1.0, rising > 0 ? (s < w ? rising : 1) : 1)
                                            : 0.1 + 0.9 * cosine)) < 1e-15);
            }
        }
}

BOOST_AUTO_TEST_CASE(the_first_steps_of_the_published_run) {
    const Schedule s{ScheduleKind::constant, 20, 1000};
    BOOST_TEST(learning_rate(2e-5, s, 1) == 2e-5 / 20, boost::test_tools::tolerance(1e-15));
    BOOST_TEST(learning_rate(2e-5, s, 19) == 1.9e-5, boost::test_tools::tolerance(1e-15));
    BOOST_TEST(learning_rate(2e-5, s, 20) == 2e-5);
    BOOST_TEST(learning_rate(2e-5, s, 1000) == 2e-5);
    BOOST_TEST(learning_rate(2e-5, {ScheduleKind::linear, 20, 1000}, 510) == 1e-5, boost::test_tools::tolerance(1e-14));
    BOOST_TEST(learning_rate(2e-5, {ScheduleKind::linear, 20, 1000}, 1000) == 0);
    BOOST_CHECK_THROW(schedule_factor(s, 0), std::logic_error);
}

BOOST_AUTO_TEST_CASE(names) {
    for (const auto kind : {ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine})
        BOOST_TEST((schedule_kind_of(std::string(name_of(kind))) == kind));
    BOOST_TEST(says(sentence_of([] { schedule_kind_of("constant_with_warmup"); }),
                    {"constant_with_warmup", "constant, linear or cosine"}));
}

BOOST_AUTO_TEST_SUITE_END()
