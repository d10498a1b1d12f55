// Which options may change between a checkpoint and the run that resumes from it. A refusal names all changes at once.
#include "run/option_check.h"

#include <boost/test/unit_test.hpp>

#include "tests/unit/train/train_testing.h"

using namespace longlora;
using namespace train_testing;

namespace {

OptionClasses options() {
    OptionClasses o;
    o.identity = {{"context", 8192}, {"seed", 0}, {"method", "longlora"}, {"targets", {"q", "k"}}};
    o.schedule = {{"lr", 2e-5}, {"steps", 1000}, {"schedule", "constant"}, {"warmup", 20}};
    o.free = {{"zero", 0}, {"run", "here"}};
    return o;
}

std::string refusal(const OptionClasses& saved, const OptionClasses& present,
                    const std::vector<std::string>& allowed = {}) {
    return sentence_of([&] { check_options(saved, present, allowed, "step-00000010.h5"); });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(option_check)

BOOST_AUTO_TEST_CASE(equal_options_pass) {
    const PermittedChanges changes = check_options(options(), options(), {}, "x");
    BOOST_TEST(changes.schedule.empty());
    BOOST_TEST(changes.free.empty());
    const OptionClasses copy = option_classes_of(parse_json(to_line(to_json(options())), "text"), "x");
    BOOST_TEST(refusal(copy, options()) == "");
}

BOOST_AUTO_TEST_CASE(identity_never_changes) {
    OptionClasses now = options();
    now.identity["context"] = 16384;
    now.identity["method"] = "full";
    const std::string sentence = refusal(options(), now);
    BOOST_TEST(says(sentence, {"step-00000010.h5", "context 8192 (now 16384)", "method longlora (now full)", "--run"}));
    BOOST_TEST(!says(sentence, {"seed"}));
    BOOST_TEST(says(refusal(options(), now, {"context"}), {"--allow-change context", "new --run"}));
    now = options();
    now.identity.erase("seed");
    now.identity["order"] = "shuffle";
    BOOST_TEST(says(refusal(options(), now), {"seed 0 (now not set)", "order not set (now shuffle)"}));
}

BOOST_AUTO_TEST_CASE(schedule_changes_when_allowed) {
    OptionClasses now = options();
    now.schedule["lr"] = 1e-5;
    now.schedule["warmup"] = 10;
    BOOST_TEST(says(refusal(options(), now),
                    {"lr 2e-05 (now 1e-05)", "warmup 20 (now 10)", "--allow-change lr --allow-change warmup"}));
    const std::string one_left = refusal(options(), now, {"lr"});
    BOOST_TEST(says(one_left, {"--allow-change warmup"}));
    BOOST_TEST(!says(one_left, {"lr"}));
    const PermittedChanges changes = check_options(options(), now, {"warmup", "lr"}, "x");
    BOOST_TEST(changes_text(changes.schedule) == "lr 2e-05 (now 1e-05), warmup 20 (now 10)");
    BOOST_TEST(says(refusal(options(), options(), {"learning-rate"}), {"learning-rate"}));
    now.identity["seed"] = 7;  // both kinds of changes in one sentence
    BOOST_TEST(says(refusal(options(), now), {"seed 0 (now 7)", "lr 2e-05 (now 1e-05)"}));
}

BOOST_AUTO_TEST_CASE(more_steps_of_a_constant_schedule) {
    OptionClasses now = options();
    now.schedule["steps"] = 2000;
    BOOST_TEST(check_options(options(), now, {}, "x").schedule.size() == 1u);
    now.schedule["steps"] = 999;
    BOOST_TEST(says(refusal(options(), now), {"steps 1000 (now 999)"}));
    BOOST_TEST(refusal(options(), now, {"steps"}) == "");
    OptionClasses saved = options();
    now.schedule["steps"] = 2000;
    saved.schedule["schedule"] = now.schedule["schedule"] = "linear";
    BOOST_TEST(says(refusal(saved, now), {"steps 1000 (now 2000)"}));
    saved.schedule["schedule"] = "constant";
    BOOST_TEST(says(refusal(saved, now), {"schedule constant (now linear)", "steps"}));
}

BOOST_AUTO_TEST_CASE(free_changes_freely) {
    OptionClasses now = options();
    now.free["zero"] = 2;
    now.free["run"] = "there";
    BOOST_TEST(changes_text(check_options(options(), now, {}, "x").free) == "run here (now there), zero 0 (now 2)");
}

BOOST_AUTO_TEST_CASE(wrong_json_is_refused) {
    BOOST_TEST(says(sentence_of([] { option_classes_of(Json::object(), "step-1.h5"); }), {"step-1.h5", "identity"}));
    BOOST_TEST(says(
        sentence_of([] {
            option_classes_of({{"identity", 1}, {"schedule", Json::object()}, {"free", Json::object()}}, "step-1.h5");
        }),
        {"step-1.h5"}));
}

BOOST_AUTO_TEST_SUITE_END()
