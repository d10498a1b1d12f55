// The program on any number of ranks, and resumed on another number. The global batch of seven is divided by none of 2,
// 3 and 4 ranks. The metrics have each step once with the loss of one rank, and a message names the differences that
// may change bits. Tensors and data order of every mesh are tested by tests/mpi/resume_mesh_test.cpp.
#include <boost/test/unit_test.hpp>

#include "jobs/train/resume_check.h"
#include "tests/unit/jobs/runs_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

Words seven(const std::string& run, int steps) { return with(training(run, steps), "global-batch", "7"); }

/// Checks that the metrics have the steps 1 .. steps once each and in order, with the losses of one rank.
void as_one_rank(const Workshop& shop, const std::string& run, std::size_t steps) {
    const std::vector<Json> expected = steps_of(shop / "one/metrics.jsonl"),
                            found = steps_of(shop / (run + "/metrics.jsonl"));
    BOOST_REQUIRE_EQUAL(found.size(), steps);
    for (std::size_t i = 0; i < steps; ++i) BOOST_TEST_CONTEXT(run << ", step " << i + 1) {
            const double one = expected.at(i)["loss"].get<double>();
            BOOST_TEST(found[i]["step"] == i + 1);
            BOOST_TEST(found[i]["tokens"] == (i + 1) * 7 * 64);
            BOOST_TEST(std::abs(found[i]["loss"].get<double>() - one) <= 5e-5 * one);
        }
    BOOST_TEST(Json::parse(io_testing::slurp(shop / (run + "/status.json")))["state"] == "done");
}

/// The differences that a resumed run names in its message about bits; empty without this message.
std::string note_of(const std::string& out) {
    const auto found = out.find("not bit for bit: ");
    return found == std::string::npos ? "" : out.substr(found + 17, out.find('\n', found) - found - 17);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(resume_mesh)

BOOST_AUTO_TEST_CASE(seven_sequences_on_one_to_four_ranks) {
    const Workshop shop;
    shop.done(seven("one", 4));
    for (const int ranks : {2, 3, 4}) {
        const std::string run = text("data", ranks);
        shop.done(seven(run, 4) + Words{"--zero", std::to_string(ranks - 1)}, ranks);
        as_one_rank(shop, run, 4);
    }
}

BOOST_AUTO_TEST_CASE(from_mesh_to_mesh) {
    const Workshop shop;
    shop.done(seven("one", 10));
    struct Course {
        int ranks, steps;
        Words mesh;
        std::string note;
    };
    const std::vector<Course> courses{
        {4, 2, {"--zero", "3"}, ""},
        {3, 4, {"--zero", "3"}, "ranks 4 (now 3)"},
        {4,
         6,
         {"--pipeline", "2", "--sequence", "2", "--zero", "3"},
         "ranks 3 (now 4), pipeline 1 (now 2), sequence 1 (now 2)"},
        {4,
         8,
         {"--sequence", "4", "--zero", "1", "--micro-batch", "2"},
         "micro-batch 1 (now 2), pipeline 2 (now 1), sequence 2 (now 4), zero 3 (now 1)"},
        {1, 10, {}, "ranks 4 (now 1), micro-batch 2 (now 1), sequence 4 (now 1), zero 1 (now 0)"}};
    for (const Course& course : courses) {
        const Outcome outcome = shop.done(seven("run", course.steps) + course.mesh, course.ranks);
        BOOST_TEST(note_of(outcome.out) == course.note, outcome.out);
        as_one_rank(shop, "run", static_cast<std::size_t>(course.steps));
    }
    BOOST_TEST(!file_exists(shop / "run/metrics.discarded.jsonl"));
}

BOOST_AUTO_TEST_CASE(changes_that_affect_rounding) {
    const auto environment = [](std::vector<int> threads, const std::string& device, const std::string& onednn) {
        Json ranks = Json::array();
        for (const int n : threads)
            ranks.push_back({{"host", text("node", ranks.size())}, {"threads", n}, {"device", device}});
        return Json{{"ranks", ranks},   {"onednn", onednn}, {"longlora", "1"},
                    {"compiler", "12"}, {"mpi", "4"},       {"started", "today"}};
    };
    const auto changes = [](const Json& then, const Json& now, const std::vector<OptionChange>& options = {}) {
        return changes_text(rounding_changes(then, now, options));
    };
    const Json then = environment({4, 4}, "CPU, avx2", "2.6");
    Json elsewhere = then;
    elsewhere["ranks"][0]["host"] = "node7", elsewhere["mpi"] = "5", elsewhere["started"] = "tomorrow";
    BOOST_TEST(changes(then, elsewhere, {{"keep", 3, 4}, {"recompute", "auto", "all"}}) == "");
    BOOST_TEST(changes(then, environment({4, 2}, "CPU, avx2", "2.6")) == "threads 4 (now 2)");
    BOOST_TEST(changes(then, environment({2, 2, 2}, "CPU, avx512", "3")) ==
               "ranks 2 (now 3), threads 4 (now 2), processor CPU, avx2 (now CPU, avx512), onednn 2.6 (now 3)");
    BOOST_TEST(changes(then, then, {{"zero", 0, 3}, {"run", "a", "b"}}) == "zero 0 (now 3)");
}

BOOST_AUTO_TEST_SUITE_END()
