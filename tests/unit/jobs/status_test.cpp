// The output of `longlora status` about a run that is running, killed, stopped or done; a second job on the same run
// folder; and `inspect --verify` of a run.
#include <boost/test/unit_test.hpp>

#include "tests/unit/jobs/runs_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

void has(const std::string& screen, const Words& parts) {
    for (const auto& part : parts)
        BOOST_TEST(screen.find(part) != std::string::npos, "no '" << part << "' in\n" << screen);
}

void flip(const std::string& path, std::size_t from_the_end) {
    std::string bytes = io_testing::slurp(path);
    bytes[bytes.size() - from_the_end] = static_cast<char>(bytes[bytes.size() - from_the_end] ^ 1);
    io_testing::spill(path, bytes);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(status)

BOOST_AUTO_TEST_CASE(every_state_of_a_run) {
    const Workshop shop;
    const Words endless = with(training("run", 1000000), "checkpoint-every", "5");
    {
        Process process(command(2, endless), shop.path());
        wait_for(process, shop / "run/metrics.jsonl", "\"event\":\"checkpoint\"");
        has(shop.done({"status", "run"}).out,
            {"state         running", "alive         yes: process ", ", 2 ranks", " of 1,000,000 (0 %)", "loss ",
             "the last run/checkpoints/step-", "starts        1, the last "});
        for (const int rank : {0, 1}) BOOST_TEST(file_exists(shop / text("run/ranks/", rank)));
        const Outcome second = shop.run(endless, 2);  // refused, while the first continues
        BOOST_TEST(second.code == 2, second.err);
        BOOST_TEST(sentences_of(second.err).size() == 1u, second.err);
        has(second.err, {"the run folder run is in use by process ", "another --run"});
        BOOST_TEST(!process.ended());
        process.kill_a_rank();
        BOOST_TEST(process.wait().code != 124);
    }
    has(shop.done({"status", "run"}).out,
        {"interrupted without a last checkpoint", "alive         no: process ", "has ended without reporting it"});
    {
        Process process(command(2, endless), shop.path());
        wait_for(process, shop / "run/status.json", "\"starts\":2");
        process.signal(SIGUSR1);
        BOOST_TEST(process.wait().code != 124);
    }
    has(shop.done({"status", "run"}).out, {"stopped (exit code 75)", "the same command resumes the run",
                                           "alive         no\n", "starts        2, the last "});
    BOOST_TEST(!file_exists(shop / "run/lock"));

    const Outcome damaged = shop.run({"status", "data.h5"});
    BOOST_TEST(damaged.code == 2);
    has(damaged.err, {"data.h5", "--run folder"});
    shop.refused({"status", "model"}, {"model is not a run folder"});
    shop.done(training("small", 2));
    has(shop.done({"status", "small"}).out,
        {"done (exit code 0)", "2 of 2 (100 %)", "checkpoints   1, the last small/checkpoints/step-00000002.h5"});
    io_testing::spill(shop / "small/status.json", "{");  // damaged files do not prevent the other lines
    io_testing::spill(shop / "small/metrics.jsonl", "x\n{\"step\"");
    has(shop.done({"status", "small"}).out, {"checkpoints   1"});
}

BOOST_AUTO_TEST_CASE(verifying_a_run) {
    const Workshop shop;
    shop.done(with(training("base", 4), "checkpoint-every", "1"));
    has(shop.done({"inspect", "base", "--verify"}).out,
        {"every block matches its checksum", "also verified: 2 earlier checkpoints",
         "the base model is the same as at the first start"});
    const std::string earlier = shop / checkpoint("base", 3), good = io_testing::slurp(earlier);
    flip(earlier, good.size() / 2);
    shop.refused({"inspect", "base", "--verify"}, {"step-00000003.h5"});
    io_testing::spill(earlier, good);
    flip(shop / "model/model.safetensors", 5);
    shop.refused({"inspect", "base", "--verify"}, {"the base model of base has changed",
                                                   "model.safetensors has other bytes than at the run's first start"});
    shop.refused(training("base", 6), {"model-content", "of the model's weights ",
                                       "model.safetensors has other bytes than at the run's first start"});
}

BOOST_AUTO_TEST_SUITE_END()
