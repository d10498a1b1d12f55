// Resuming from checkpoints by the same command: runs that were killed or stopped end with the bits of an uninterrupted
// one, and a sentence refuses runs that cannot be resumed.
#include <boost/test/unit_test.hpp>
#include <random>

#include "tests/unit/jobs/runs_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

/// A training whose steps take long enough to be interrupted.
Words long_training(const std::string& run, const std::string& dtype, const Words& mesh) {
    return with(with(with(training(run, 20), "global-batch", "32"), "dtype", dtype), "checkpoint-every", "10") + mesh;
}

void interrupted_equals_whole(int ranks, const std::string& dtype, const Words& mesh = {}) {
    const Workshop shop;
    shop.done(long_training("whole", dtype, mesh), ranks);

    const Words killed = long_training("killed", dtype, mesh);
    {
        Process process(command(ranks, killed), shop.path());
        wait_for(process, shop / "killed/metrics.jsonl", "\"event\":\"checkpoint\"");
        std::this_thread::sleep_for(std::chrono::milliseconds(std::random_device()() % 100));
        process.kill_a_rank();
        BOOST_TEST(process.wait().code != 124);
    }
    const auto before = steps_of(shop / "killed/metrics.jsonl");
    BOOST_TEST(before.size() >= 10u);
    const bool was_killed = !file_exists(shop / "killed/checkpoints/step-00000020.h5");
    if (!was_killed) BOOST_TEST_MESSAGE("the kill came after the end");
    const Outcome resumed = shop.done(killed, ranks);
    if (was_killed)
        BOOST_TEST(
            resumed.out.find("resuming from killed/checkpoints/step-00000010.h5 after step 10") != std::string::npos,
            resumed.out);
    BOOST_TEST(resumed.out.find("bit for bit") == std::string::npos, resumed.out);
    same_runs(shop / "whole", shop / "killed", 20);
    if (was_killed && before.size() > 10) {
        const auto discarded = steps_of(shop / "killed/metrics.discarded.jsonl"),
                   after = steps_of(shop / "killed/metrics.jsonl");
        BOOST_TEST(discarded.size() == before.size() - 10);
        for (std::size_t i = 0; i < discarded.size(); ++i)
            BOOST_TEST(discarded[i] == after[10 + i],
                       "a discarded step differs when done again: " << discarded[i].dump());
    }

    const Words stopped = long_training("stopped", dtype, mesh);
    Process process(command(ranks, stopped), shop.path());
    wait_for(process, shop / "stopped/metrics.jsonl", "\"step\":5,");
    process.signal(SIGUSR1);
    const Outcome stop = process.wait();
    const Json status = Json::parse(io_testing::slurp(shop / "stopped/status.json"));
    if (status["step"] != 20) {
        BOOST_TEST(stop.code == 75, stop.code << stop.err);
        BOOST_TEST(status["state"] == "stopped");
        BOOST_TEST(status["exit_code"] == 75);
        BOOST_TEST(io_testing::slurp(shop / "stopped/checkpoints/latest") == checkpoint_name(status["step"]) + "\n");
    }
    shop.done(stopped, ranks);
    same_runs(shop / "whole", shop / "stopped", 20);
    BOOST_TEST(!file_exists(shop / "stopped/metrics.discarded.jsonl"));
    BOOST_TEST(Json::parse(io_testing::slurp(shop / "stopped/status.json"))["state"] == "done");
}

void spoil(const std::string& path) {
    std::string bytes = io_testing::slurp(path);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    io_testing::spill(path, bytes);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(resume)

BOOST_AUTO_TEST_CASE(one_rank_float32) { interrupted_equals_whole(1, "float32"); }
BOOST_AUTO_TEST_CASE(one_rank_bfloat16) { interrupted_equals_whole(1, "bfloat16"); }
BOOST_AUTO_TEST_CASE(two_ranks_float32) { interrupted_equals_whole(2, "float32"); }
BOOST_AUTO_TEST_CASE(two_ranks_bfloat16) { interrupted_equals_whole(2, "bfloat16"); }
BOOST_AUTO_TEST_CASE(pipeline_and_sequence_and_zero_3) {
    interrupted_equals_whole(4, "float32", {"--pipeline", "2", "--sequence", "2", "--zero", "3"});
}

BOOST_AUTO_TEST_CASE(another_number_of_ranks_resumes) {
    const Workshop shop;
    shop.done(training("run", 2), 2);
    const Outcome more = shop.done(training("run", 4), 1);
    BOOST_TEST(more.out.find("not bit for bit") != std::string::npos, more.out);
    BOOST_TEST(steps_of(shop / "run/metrics.jsonl").size() == 4u);
}

BOOST_AUTO_TEST_CASE(the_newest_undamaged_checkpoint_is_used) {
    const Workshop shop;
    const Words every_two = with(training("run", 4), "checkpoint-every", "2");
    shop.done(with(training("whole", 6), "checkpoint-every", "2"));
    shop.done(every_two);
    spoil(shop / checkpoint("run", 4));
    const Outcome outcome = shop.done(with(every_two, "steps", "6"));
    for (const char* part : {"step-00000004.h5 is damaged", "moved to step-00000004.h5.damaged",
                             "resumes from run/checkpoints/step-00000002.h5 instead"})
        BOOST_TEST(outcome.out.find(part) != std::string::npos, outcome.out);
    BOOST_TEST(file_exists(shop / (checkpoint("run", 4) + ".damaged")));
    same_runs(shop / "whole", shop / "run", 6);

    // A partial file, left by a kill while saving, is not a checkpoint.
    io_testing::spill(shop / (checkpoint("run", 9) + ".partial"), "half");
    shop.done(with(every_two, "steps", "8"));
    BOOST_TEST(!file_exists(shop / (checkpoint("run", 9) + ".partial")));
    BOOST_TEST(steps_of(shop / "run/metrics.jsonl").size() == 8u);

    const Workshop all_damaged;
    all_damaged.done(training("base", 2));
    spoil(all_damaged / checkpoint("base", 2));
    const Outcome refused = all_damaged.run(training("base", 4));
    BOOST_TEST(refused.code == 2);
    BOOST_TEST(refused.err.find("step-00000002.h5") != std::string::npos, refused.err);
    BOOST_TEST(sentences_of(refused.err).size() == 1u, refused.err);
}

BOOST_AUTO_TEST_CASE(keep_and_latest) {
    const Workshop shop;
    shop.done(with(with(training("run", 5), "checkpoint-every", "1"), "keep", "2"));
    const auto files = list_checkpoints(shop / "run");
    BOOST_REQUIRE_EQUAL(files.size(), 2u);
    BOOST_TEST(files[0].step == 4);
    BOOST_TEST(files[1].step == 5);
    BOOST_TEST(io_testing::slurp(shop / "run/checkpoints/latest") == "step-00000005.h5\n");
}

BOOST_AUTO_TEST_CASE(a_finished_run_is_not_changed) {
    const Workshop shop;
    shop.done(training("run", 3));
    const std::string bytes = io_testing::slurp(shop / checkpoint("run", 3));
    const std::string manifest = io_testing::slurp(shop / "run/manifest.json"),
                      metrics = io_testing::slurp(shop / "run/metrics.jsonl");
    const auto time = std::filesystem::last_write_time(shop / checkpoint("run", 3));
    shop.done(training("run", 3));
    // They describe the start that did the steps.
    BOOST_TEST((io_testing::slurp(shop / "run/manifest.json") == manifest &&
                io_testing::slurp(shop / "run/metrics.jsonl") == metrics));
    BOOST_TEST((io_testing::slurp(shop / checkpoint("run", 3)) == bytes));
    BOOST_TEST((std::filesystem::last_write_time(shop / checkpoint("run", 3)) == time));
    BOOST_TEST(steps_of(shop / "run/metrics.jsonl").size() == 3u);
    BOOST_TEST(Json::parse(io_testing::slurp(shop / "run/status.json"))["state"] == "done");
}

BOOST_AUTO_TEST_CASE(from_a_file) {
    const Workshop shop;
    shop.done(with(training("base", 4), "checkpoint-every", "2"));
    shop.done(training("whole", 6));
    shop.done(with(training("other", 6), "resume", checkpoint("base", 2)));  // into another run folder
    same_checkpoints(shop / checkpoint("whole", 6), shop / checkpoint("other", 6));
    // The same --resume again: the newest checkpoint of its own run folder is used.
    const Outcome requeued = shop.done(with(training("other", 8), "resume", checkpoint("base", 2)));
    BOOST_TEST(requeued.out.find("resuming from " + checkpoint("other", 6)) != std::string::npos, requeued.out);
    shop.done(with(training("base", 6), "resume", checkpoint("base", 2)));  // back to an earlier checkpoint
    same_runs(shop / "whole", shop / "base", 6);
    BOOST_TEST(file_exists(shop / (checkpoint("base", 4) + ".discarded")));
    BOOST_TEST(steps_of(shop / "base/metrics.discarded.jsonl").size() == 2u);
    shop.refused(with(training("x"), "resume", "missing.h5"), {"missing.h5"});
    shop.refused(with(training("x"), "resume", "base"), {"--resume base", "checkpoints/step-*.h5", "--run base"});
    shop.refused(with(training("x"), "resume", "data.h5"), {"data.h5", "not a longlora checkpoint"});
    shop.refused(with(training("base", 6), "resume", "never"), {"base has checkpoints already"});
}

/// Two courses never meet in one folder.
BOOST_AUTO_TEST_CASE(a_file_of_another_run) {
    const Workshop shop;
    const auto saving = [](const std::string& run, int steps) {
        return with(training(run, steps), "checkpoint-every", "2");
    };
    shop.done(saving("a", 4));
    shop.done(saving("b", 4));
    shop.refused(with(saving("a", 6), "resume", checkpoint("b", 2)),
                 {"a has steps of its own", checkpoint("b", 2), "new --run", "a/checkpoints"});
    // Copies of the run, and of its checkpoints, belong to it as far as the run itself went on from them.
    const auto recursive = std::filesystem::copy_options::recursive;
    std::filesystem::copy(shop / "a", shop / "copy", recursive);
    shop.done(saving("copy", 6));
    std::filesystem::copy_file(shop / checkpoint("a", 2), shop / "kept.h5");
    shop.done(with(saving("copy", 6), "resume", "kept.h5"));
    BOOST_TEST(file_exists(shop / (checkpoint("copy", 6) + ".discarded")));
    same_runs(shop / "copy", shop / "copy", 6);
    shop.refused(with(saving("a", 8), "resume", checkpoint("copy", 6)), {"a has steps of its own"});
    // A start that saved nothing leaves lines of metrics. They are no steps of the run that begins here.
    std::filesystem::create_directory(shop / "new");
    io_testing::spill(shop / "new/metrics.jsonl", "{\"step\":1,\"loss\":9}\n");
    shop.done(with(saving("new", 4), "resume", checkpoint("b", 2)));
    BOOST_TEST(steps_of(shop / "new/metrics.jsonl").size() == 2u);
    BOOST_TEST(io_testing::slurp(shop / "new/metrics.discarded.jsonl") == "{\"step\":1,\"loss\":9}\n");
}

BOOST_AUTO_TEST_CASE(fewer_steps_than_done) {
    const Workshop shop;
    shop.done(training("run", 4));
    const Outcome outcome = shop.done(training("run", 3) + Words{"--allow-change"} + Words{"steps"});
    BOOST_TEST(
        outcome.out.find("nothing to do: --steps is 3, and the run has done 4 steps already") != std::string::npos,
        outcome.out);
    BOOST_TEST(outcome.out.find("done: 4 steps") == std::string::npos, outcome.out);
}

/// A request to stop ends the wait for a lock whose holder is silent.
BOOST_AUTO_TEST_CASE(stopped_while_waiting_for_the_lock) {
    const Workshop shop;
    std::filesystem::create_directory(shop / "run");
    io_testing::spill(shop / "run/lock", to_line({{"token", "t"},
                                                  {"cluster", ""},
                                                  {"job", ""},
                                                  {"restart", ""},
                                                  {"host", "elsewhere"},
                                                  {"machine", "another"},
                                                  {"process", 77},
                                                  {"process_start", 5},
                                                  {"counter", "000000000009"}}) +
                                             "\n");
    Process process(command(1, training("run") + Words{"--lock-timeout", "100"}), shop.path());
    std::this_thread::sleep_for(std::chrono::seconds(2));
    process.signal(SIGTERM);
    const Outcome outcome = process.wait(30);
    BOOST_TEST(outcome.code == 75);
    BOOST_TEST(outcome.err.find("stopped while waiting for the lock of the run folder run") != std::string::npos,
               outcome.err);
    BOOST_TEST(listing(shop / "run").size() == 1u);
}

BOOST_AUTO_TEST_CASE(identity_options_cannot_change) {
    const Workshop shop;
    shop.done(training("base", 2));
    const Words base = training("base", 4);
    const std::pair<const char*, const char*> changes[] = {
        {"context", "32"},       {"group", "8"},       {"attention", "plain"}, {"method", "lora"},
        {"train", "embed"},      {"lora-rank", "4"},   {"lora-alpha", "8"},    {"lora-targets", "q,k"},
        {"rope-theta", "20000"}, {"rope-factor", "2"}, {"rope", "linear"},     {"global-batch", "8"},
        {"order", "sequential"}, {"seed", "1"},        {"dtype", "bfloat16"}};
    for (const auto& [name, value] : changes) shop.refused(with(base, name, value), {name, value, "step-00000002.h5"});
    shop.refused(base + Words{"--document-mask"}, {"document-mask", "step-00000002.h5"});
    shop.refused(with(with(base, "context", "32"), "seed", "5"), {"context 64 (now 32)", "seed 0 (now 5)"});

    shop.make_data("other.h5", 256, 20, 2);
    shop.refused(with(base, "data", "other.h5"), {"data-content", "step-00000002.h5"});
    shop.refused(with(base, "data", "data.h5,other.h5"), {"data-content"});
    std::filesystem::copy(shop / "model", shop / "changed", std::filesystem::copy_options::recursive);
    std::string weights = io_testing::slurp(shop / "changed/model.safetensors");
    weights[weights.size() - 4] = static_cast<char>(weights[weights.size() - 4] ^ 1);
    io_testing::spill(shop / "changed/model.safetensors", weights);
    shop.refused(with(base, "model", "changed"), {"model-content", "step-00000002.h5"});
    std::filesystem::copy(shop / "model", shop / "turned", std::filesystem::copy_options::recursive);
    std::string config = io_testing::slurp(shop / "turned/config.json");
    config.replace(config.find("10000.0"), 7, "50000.0");
    io_testing::spill(shop / "turned/config.json", config);
    shop.refused(with(base, "model", "turned"), {"rope_theta 10000.0 (now 50000.0)", "step-00000002.h5"});
    shop.refused(with(with(base, "model", "turned"), "seed", "5"),
                 {"rope_theta", "seed 0 (now 5)"});  // every difference in one sentence
}

BOOST_AUTO_TEST_CASE(schedule_options_change_when_allowed) {
    const Workshop shop;
    shop.done(training("base", 3));
    const Words base = training("base", 6);
    const std::pair<const char*, const char*> changes[] = {
        {"lr", "0.002"},         {"lr-embed", "0.001"}, {"lr-norm", "0.001"},  {"warmup", "4"},
        {"weight-decay", "0.5"}, {"beta1", "0.5"},      {"beta2", "0.5"},      {"eps", "0.001"},
        {"clip", "7"},           {"steps", "2"},        {"schedule", "linear"}};
    for (const auto& [name, value] : changes)
        shop.refused(with(base, name, value), {name, value, "--allow-change", "step-00000003.h5"});
    shop.refused(with(base, "allow-change", "context"), {"--allow-change context", "start a new --run"});
    shop.refused(with(training("x"), "allow-change", "contxet"), {"--allow-change contxet"});
    const Outcome outcome = shop.done(with(with(base, "lr", "0.002"), "allow-change", "lr"));
    BOOST_TEST(outcome.out.find("changed since then: lr 0.001 (now 0.002)") != std::string::npos, outcome.out);
    BOOST_TEST(steps_of(shop / "base/metrics.jsonl").back()["learning_rate"] == 0.002);
}

BOOST_AUTO_TEST_CASE(everything_may_move) {
    const Workshop shop;
    shop.done(training("whole", 4));
    shop.done(training("run", 2));
    for (const auto& [from, to] : {std::pair{"model", "moved_model"}, {"data.h5", "moved.h5"}, {"run", "moved_run"}})
        std::filesystem::rename(shop / from, shop / to);
    shop.done(with(with(training("moved_run", 4), "model", "moved_model"), "data", "moved.h5"));
    same_runs(shop / "whole", shop / "moved_run", 4);
}

BOOST_AUTO_TEST_SUITE_END()
