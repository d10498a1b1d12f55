// What commands write over: a file that exists is replaced only by the command that made it, and never if it is also an
// input; only one job at a time writes an output; a job that slept while another took over writes nothing more.
#include <sys/stat.h>

#include <boost/test/unit_test.hpp>

#include "run/lock.h"
#include "tests/unit/jobs/runs_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace fs = std::filesystem;

namespace {

const Words kEvaluate{"evaluate", "--model", "model", "--data", "data.h5", "--context", "64", "--windows", "2"};
const Words kPlan{"plan", "--model", "model", "--context", "64"};

Words prepare(const std::string& output, const Words& inputs) {
    return Words{"prepare", output} + inputs + Words{"--vocabulary", "256"};
}

/// Writes `documents` documents of `length` times the id `token`.
void make_ids(const Workshop& shop, const std::string& name, int token, int documents, int length) {
    std::string line = "{\"tokens\": [" + std::to_string(token);
    for (int i = 1; i < length; ++i) line += "," + std::to_string(token);
    line += "]}\n";
    std::string lines;
    for (int i = 0; i < documents; ++i) lines += line;
    io_testing::spill(shop / name, lines);
}

/// The first token of a token file, if all of its tokens are equal; otherwise -1.
std::int32_t only_token(const std::string& path) {
    const TokenFile file(path);
    file.verify_all();
    std::vector<std::int32_t> tokens(file.num_tokens());
    file.read(0, file.num_tokens(), tokens.data());
    return std::adjacent_find(tokens.begin(), tokens.end(), std::not_equal_to<>()) == tokens.end() ? tokens.front()
                                                                                                   : -1;
}

/// The contents of all files in the shop.
std::map<std::string, std::string> contents(const Workshop& shop) {
    std::map<std::string, std::string> out;
    for (const auto& entry : fs::recursive_directory_iterator(shop.path()))
        if (entry.is_regular_file()) out[entry.path().string()] = io_testing::slurp(entry.path().string());
    return out;
}

/// As Workshop::refused, and no byte of any file changes.
void keeps_all(const Workshop& shop, const Words& arguments, const Words& parts) {
    const auto before = contents(shop);
    shop.refused(arguments, parts);
    BOOST_TEST((contents(shop) == before), line_of(arguments));
}

/// Waits for a file of a running process.
void wait_for_file(Process& process, const std::string& path) {
    for (double limit = now_seconds() + 60; !process.ended() && now_seconds() < limit && !file_exists(path);)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(outputs)

BOOST_AUTO_TEST_CASE(files_of_others_are_kept) {
    const Workshop shop;
    make_ids(shop, "ids.jsonl", 1, 3, 5);
    io_testing::spill(shop / "book.txt", "a book");
    io_testing::spill(shop / "empty.h5", "");
    fs::create_symlink("model/model.safetensors", shop / "link");
    shop.done(training("base"));
    const Words exists{"exists and is not a token file", "name another output"};
    for (const char* output : {"book.txt", "ids.jsonl", "model/model.safetensors", "model/config.json", "link",
                               "empty.h5", "base/checkpoints/step-00000002.h5"})
        keeps_all(shop, prepare(output, {"ids.jsonl"}),
                  std::string(output) == "ids.jsonl" ? Words{"ids.jsonl"} : Words{output} + exists);
    keeps_all(shop,
              {"prepare", "book.txt", "ids.jsonl", "--tokenizer", SOURCE_FOLDER "/tests/golden/tokenizers/digits"},
              {"book.txt"});
    for (const char* output : {"book.txt", "model/generation_config.json", "data.h5", "link", "base/manifest.json",
                               "base/metrics.jsonl", "base/status.json"}) {
        keeps_all(shop, kEvaluate + Words{"--json", output}, {output});
        keeps_all(shop, kPlan + Words{"--json", output}, {output});
    }
    keeps_all(shop, kEvaluate + Words{"--json", "/dev/null"}, {"/dev/null", "is not a result of evaluate"});
    for (const char* output : {"book.txt", "model", "base", "link", "data.h5"})
        keeps_all(shop, {"export", "base", output}, {output, "exists"});
}

BOOST_AUTO_TEST_CASE(results_of_the_same_command_are_replaced) {
    const Workshop shop;
    make_ids(shop, "one.jsonl", 1, 3, 5);
    make_ids(shop, "two.jsonl", 2, 3, 5);
    shop.done(prepare("x.h5", {"one.jsonl"}));
    shop.done(prepare("x.h5", {"two.jsonl"}));
    BOOST_TEST(only_token(shop / "x.h5") == 2);
    io_testing::spill(shop / "e.json", "");
    io_testing::spill(shop / "p.json", "");
    for (int i = 0; i < 2; ++i) {
        shop.done(kEvaluate + Words{"--json", "e.json"});
        shop.done(kPlan + Words{"--json", "p.json"});
        shop.done(kPlan + Words{"--json", "f.json", "--find"});
    }
    BOOST_TEST(read_json_file(shop / "e.json").contains("results"));
    keeps_all(shop, kEvaluate + Words{"--json", "p.json"}, {"p.json", "is not a result of evaluate"});
    keeps_all(shop, kPlan + Words{"--json", "e.json"}, {"e.json", "is not a plan"});
    for (const auto& entry : fs::directory_iterator(shop.path())) {
        const std::string name = entry.path().filename().string();
        BOOST_TEST(!(name.ends_with(".lock") || name.ends_with(".partial") || name.ends_with(".parts")), name);
    }
}

/// In the folder of prepare's units and in a run folder, what only has a name like ours stays.
BOOST_AUTO_TEST_CASE(names_like_ours) {
    const Workshop shop;
    make_ids(shop, "one.jsonl", 1, 3, 5);
    fs::create_directories(shop / "x.h5.parts");
    const Words theirs{"unit-tests.txt", "x.partial", "unit-1.json", "unit-000007.tokens.gz",
                       "unit-000000.tokens.partial.bak"};
    for (const std::string& name : theirs) io_testing::spill(shop / ("x.h5.parts/" + name), "work");
    io_testing::spill(shop / "x.h5.parts/unit-000099.json.0123456789abcdef.partial", "ours");
    io_testing::spill(shop / "x.h5.parts/unit-000099.json", "{\"work\": 1}");
    shop.done(prepare("x.h5", {"one.jsonl"}));
    for (const std::string& name : theirs) BOOST_TEST(io_testing::slurp(shop / ("x.h5.parts/" + name)) == "work", name);
    BOOST_TEST(io_testing::slurp(shop / "x.h5.parts/unit-000099.json") == "{\"work\": 1}");
    BOOST_TEST(listing(shop / "x.h5.parts").size() == theirs.size() + 1);
    io_testing::spill(shop / "x.h5.parts/unit-000000.json", "{\"work\": 1}");
    keeps_all(shop, prepare("x.h5", {"one.jsonl"}), {"unit-000000.json", "was not made by prepare"});
    fs::create_directory(shop / "films");
    io_testing::spill(shop / "films/film.partial", "work");
    keeps_all(shop, training("films"), {"films", "film.partial", "is no run folder"});
    io_testing::spill(shop / "y.h5.lock", "{\"work\": 1}");
    keeps_all(shop, prepare("y.h5", {"one.jsonl"}), {"y.h5.lock", "is no lock of this program"});
}

BOOST_AUTO_TEST_CASE(inputs_with_odd_names) {
    const Workshop shop;
    io_testing::spill(shop / "n\xff.jsonl", "{\"tokens\": [7, 7]}\n");
    shop.done(prepare("x.h5", {"n\xff.jsonl"}), 2);
    BOOST_TEST(only_token(shop / "x.h5") == 7);
    const io_testing::Scratch elsewhere;
    const std::string pipe = elsewhere / "p.jsonl";
    BOOST_REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);  // nobody writes into it
    for (const Words& words : {prepare("y.h5", {pipe}), kPlan + Words{"--config", pipe}, Words{"inspect", pipe}})
        shop.refused(words, {pipe, "is not a regular file"});
}

/// Also through links: a hard link, a symbolic link, another spelling.
BOOST_AUTO_TEST_CASE(an_input_is_never_an_output) {
    const Workshop shop;
    fs::copy(shop / "data.h5", shop / "tokens.txt");
    fs::create_hard_link(shop / "tokens.txt", shop / "hard.h5");
    fs::create_symlink("tokens.txt", shop / "soft.h5");
    for (const char* output : {"tokens.txt", "hard.h5", "soft.h5", "./model/../tokens.txt"})
        keeps_all(
            shop,
            {"prepare", output, "tokens.txt", "--tokenizer", SOURCE_FOLDER "/tests/golden/tokenizers/sentencepiece"},
            {output, "is also an input (tokens.txt)", "name another output"});
    fs::create_directory(shop / "folder");
    fs::create_hard_link(shop / "tokens.txt", shop / "folder/a.txt");
    keeps_all(shop,
              {"prepare", "hard.h5", "folder", "--tokenizer", SOURCE_FOLDER "/tests/golden/tokenizers/sentencepiece"},
              {"hard.h5", "is also an input (folder/a.txt)"});
    for (const char* output : {"model/config.json", "data.h5"})
        keeps_all(shop, kEvaluate + Words{"--json", output}, {output, "is also an input"});
    keeps_all(shop, kPlan + Words{"--json", "model/config.json"}, {"model/config.json", "is also an input"});
    keeps_all(shop, training("model"), {"model", "is also an input"});
}

BOOST_AUTO_TEST_CASE(a_run_writes_no_folder_of_others) {
    const Workshop shop;
    fs::copy(shop / "model", shop / "another", fs::copy_options::recursive);
    keeps_all(shop, training("another"), {"another has files", "is no run folder", "--run"});
    fs::create_directory(shop / "run");
    shop.done(training("run", 2));
    shop.done(training("run", 3));
}

/// The holder of the locks is this test, which lives.
BOOST_AUTO_TEST_CASE(the_second_job_is_refused) {
    const Workshop shop;
    make_ids(shop, "ids.jsonl", 1, 3, 5);
    shop.done(training("base", 1));
    const Words in_use{text("process ", getpid()), "in use", "wait until that process ends", "another"};
    const LockFile x(lock_of_output(shop / "x"), {});
    shop.refused(prepare("x", {"ids.jsonl"}), in_use + Words{"the output x "});
    shop.refused(prepare("x", {"ids.jsonl"}), in_use + Words{"the output x "}, 2);
    shop.refused({"export", "base", "x"}, in_use + Words{"the output x "});
    shop.refused({"export", "base", "./x/"}, in_use + Words{"the output x "});
    shop.refused(kEvaluate + Words{"--json", "x"}, in_use + Words{"the output x "});
    shop.refused(kEvaluate + Words{"--json", "x"}, in_use + Words{"the output x "}, 2);
    shop.refused(kPlan + Words{"--json", "x"}, in_use + Words{"the output x "});
    const LockFile run(lock_of_run(shop / "base"), {});
    shop.refused(training("base", 2), in_use + Words{"the run folder base "});
}

BOOST_AUTO_TEST_CASE(two_prepares_at_once_do_not_mix) {
    const Workshop shop;
    make_ids(shop, "one.jsonl", 1, 8000, 200);
    make_ids(shop, "two.jsonl", 2, 8000, 200);
    Process one(command(1, prepare("x.h5", {"one.jsonl"})), shop.path()),
        two(command(1, prepare("x.h5", {"two.jsonl"})), shop.path());
    const Outcome first = one.wait(), second = two.wait();
    for (const Outcome& outcome : {first, second}) {
        BOOST_TEST((outcome.code == 0 || outcome.code == 2), outcome.code << outcome.err);
        if (outcome.code == 2)
            BOOST_TEST(outcome.err.find("the output x.h5 is in use by process") != std::string::npos, outcome.err);
    }
    BOOST_TEST((first.code == 0 || second.code == 0));
    const std::int32_t token = only_token(shop / "x.h5");
    BOOST_TEST((token == 1 || token == 2));
    if (first.code == 2) BOOST_TEST(token == 2);
    if (second.code == 2) BOOST_TEST(token == 1);
    for (const char* name : {"x.h5.lock", "x.h5.parts"}) BOOST_TEST(!file_exists(shop / name), name);
}

/// The lock of a killed job is stale, so the same command resumes from the units that were made.
BOOST_AUTO_TEST_CASE(a_killed_prepare_resumes) {
    const Workshop shop;
    make_ids(shop, "ids.jsonl", 7, 20000, 200);
    shop.done(prepare("whole.h5", {"ids.jsonl"}));
    {
        Process process(command(1, prepare("x.h5", {"ids.jsonl"})), shop.path());
        wait_for_file(process, shop / "x.h5.parts/unit-000002.json");
        process.kill(SIGKILL);
        BOOST_TEST(process.wait().code == 128 + SIGKILL);
    }
    BOOST_TEST(file_exists(shop / "x.h5.lock"));
    BOOST_TEST(file_exists(shop / "x.h5.parts/unit-000002.json"));
    const Outcome resumed = shop.done(prepare("x.h5", {"ids.jsonl"}));
    BOOST_TEST(resumed.out.find("took over the lock of process") != std::string::npos, resumed.out);
    BOOST_TEST((io_testing::slurp(shop / "x.h5") == io_testing::slurp(shop / "whole.h5")));
    for (const auto& entry : fs::directory_iterator(shop.path())) {
        const std::string name = entry.path().filename().string();
        BOOST_TEST((!name.starts_with("x.h5") || name == "x.h5"), name);
    }
}

/// Another job took over while this one was stopped, wrote the output and ended.
BOOST_AUTO_TEST_CASE(a_prepare_that_slept_writes_nothing_more) {
    const Workshop shop;
    make_ids(shop, "one.jsonl", 1, 20000, 200);
    make_ids(shop, "two.jsonl", 2, 100, 200);
    Process sleeper(command(1, prepare("x.h5", {"one.jsonl"})), shop.path());
    wait_for_file(sleeper, shop / "x.h5.parts/unit-000001.json");
    sleeper.kill(SIGSTOP);
    fs::remove(shop / "x.h5.lock");  // as after the timeout, without the wait
    shop.done(prepare("x.h5", {"two.jsonl"}));
    const std::string good = io_testing::slurp(shop / "x.h5");
    sleeper.kill(SIGCONT);
    const Outcome outcome = sleeper.wait();
    BOOST_TEST(outcome.code == 2, outcome.err);
    BOOST_TEST(sentences_of(outcome.err).size() == 1u, outcome.err);
    BOOST_TEST((io_testing::slurp(shop / "x.h5") == good));
    BOOST_TEST(only_token(shop / "x.h5") == 2);
}

/// Job 1 is stopped in its first steps; job 2 takes over, does the other steps and ends, so its lock file is gone; then
/// job 1 continues.
BOOST_AUTO_TEST_CASE(a_run_that_slept_writes_nothing_more) {
    const Workshop shop;
    const Words run = training("run", 300) + Words{"--checkpoint-every", "4", "--lock-timeout", "5"};
    Process sleeper(command(1, run), shop.path());
    wait_for(sleeper, shop / "run/metrics.jsonl", "\"step\":5,");
    sleeper.kill(SIGSTOP);
    BOOST_REQUIRE(Json::parse(io_testing::slurp(shop / "run/status.json"))["state"] == "running");
    shop.done(run);
    BOOST_TEST(io_testing::slurp(shop / "run/checkpoints/latest") == checkpoint_name(300) + "\n");
    const auto results = [&] {
        auto all = contents(shop);
        std::erase_if(all, [](const auto& file) {
            return file.first.find("/run/ranks/") != std::string::npos || file.first.ends_with(".partial");
        });
        return all;
    };
    const auto before = results();
    sleeper.kill(SIGCONT);
    const Outcome outcome = sleeper.wait();
    BOOST_TEST(outcome.code == 2, outcome.err);
    BOOST_TEST(sentences_of(outcome.err).size() == 1u, outcome.err);
    BOOST_TEST(outcome.err.find("writes nothing more") != std::string::npos, outcome.err);
    BOOST_TEST((results() == before));
    BOOST_TEST(Json::parse(io_testing::slurp(shop / "run/status.json"))["state"] == "done");
}

BOOST_AUTO_TEST_SUITE_END()
