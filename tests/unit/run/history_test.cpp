// The history of a checkpoint decides whether another one belongs to the same course of a run.
#include "run/history.h"

#include <boost/test/unit_test.hpp>

using namespace longlora;

BOOST_AUTO_TEST_SUITE(history)

BOOST_AUTO_TEST_CASE(on_the_way) {
    const Json one = with_start(Json::array(), "a", 1), two = with_start(one, "b", 5), fork = with_start(one, "c", 3);
    BOOST_TEST(is_on_the_way(one, 9, one));   // the same start
    BOOST_TEST(is_on_the_way(one, 4, two));   // where b resumed
    BOOST_TEST(!is_on_the_way(one, 5, two));  // a was killed later than its last checkpoint that b knew
    BOOST_TEST(is_on_the_way(one, 2, fork));
    BOOST_TEST(!is_on_the_way(two, 6, fork));
    BOOST_TEST(!is_on_the_way(two, 6, one));
    BOOST_TEST(!is_on_the_way(Json::array(), 1, one));  // older than histories
    BOOST_TEST(!is_on_the_way(one, 1, Json::array()));
}

BOOST_AUTO_TEST_CASE(attributes) {
    const Json one = with_start(Json::array(), "a", 1);
    BOOST_TEST(starts_of({{"starts", one}}) == one);
    for (const Json& other : {Json::object(), Json{{"starts", 3}}, Json{{"starts", {1, 2}}}, Json{{"starts", {{"a"}}}}})
        BOOST_TEST(starts_of(other) == Json::array());
}

BOOST_AUTO_TEST_SUITE_END()
