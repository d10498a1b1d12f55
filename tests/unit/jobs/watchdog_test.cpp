// The sentence with which a standstill ends a process says what the ranks did and what the user can do. A child process
// runs the watchdog; who made no progress is tested by tests/unit/run/rank_files_test.cpp and tests/faults.
#include "jobs/process/watchdog.h"

#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <string>

using namespace longlora;

namespace {

/// What a child process prints to stderr that works as `work` does and then stands still; it must end with exit code 5.
template <class Work> std::string sentence_after(Work&& work) {
    int ends[2];
    BOOST_REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        ::dup2(ends[1], STDERR_FILENO);
        Watchdog watchdog({.timeout_seconds = 0.5});
        work(watchdog);
        for (;;) ::pause();
    }
    ::close(ends[1]);
    std::string out;
    char buffer[256];
    for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
        out.append(buffer, static_cast<std::size_t>(n));
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 5));
    return out;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

BOOST_AUTO_TEST_SUITE(watchdog)

BOOST_AUTO_TEST_CASE(the_sentence_names_the_phase_and_the_way_out) {
    const std::string planning = sentence_after([](Watchdog& w) {
        w.set_way_out("the same command begins again");
        w.enter("planning the step");
    });
    BOOST_TEST(has(planning, "no progress for"), planning);
    BOOST_TEST(has(planning, "while planning the step"), planning);
    BOOST_TEST(has(planning, "; the same command begins again"), planning);
    BOOST_TEST(!has(planning, "checkpoint"), planning);
    const std::string later = sentence_after([](Watchdog& w) {
        w.enter("planning the step");
        w.set_way_out("the same command begins again");
        w.enter("training");
        w.set_way_out("the same command resumes from the last checkpoint");
    });
    BOOST_TEST(has(later, "while training"), later);
    BOOST_TEST(has(later, "; the same command resumes from the last checkpoint"), later);
    BOOST_TEST(!has(later, "begins again"), later);
}

BOOST_AUTO_TEST_SUITE_END()
