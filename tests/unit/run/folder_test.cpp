// manifest.json, metrics.jsonl and status.json: all digits survive, each step appears once after a resume, and a kill
// during a write does no harm.
#include "run/folder.h"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <sstream>

#include "run/checkpoint_files.h"
#include "run/rank_files.h"
#include "tests/unit/train/train_testing.h"

using namespace longlora;
using namespace train_testing;

namespace {

std::string line(int step, double loss) { return to_line({{"step", step}, {"loss", loss}}) + "\n"; }

void write_raw(const std::string& path, const std::string& content) {
    FileHandle::create(path).write_at(content.data(), static_cast<std::int64_t>(content.size()), 0);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(run_folder)

BOOST_AUTO_TEST_CASE(every_digit_of_a_double) {
    const TemporaryFolder folder;
    MetricsLog log(folder.path());
    std::vector<double> values;
    for (std::uint64_t i = 0; i < 500; ++i)
        values.push_back(random_normal(1, 2, i) * std::pow(10.0, static_cast<double>(i % 40) - 20));
    for (const double v : values) BOOST_TEST(log.append({{"loss", v}}) == "");
    std::istringstream in(read_text_file(folder / "metrics.jsonl"));
    std::size_t n = 0;
    for (std::string l; std::getline(in, l); ++n)
        BOOST_TEST(parse_json(l, "line")["loss"].get<double>() == values[n]);  // the same bits
    BOOST_TEST(n == values.size());
}

BOOST_AUTO_TEST_CASE(folders_that_a_run_may_write_into) {
    const TemporaryFolder folder;
    const std::string run = folder / "run";
    const auto refusal = [&] { return sentence_of([&] { require_run_folder(run); }); };
    BOOST_TEST(refusal() == "");  // it does not exist yet
    std::filesystem::create_directories(run + "/job");
    for (const char* name : {"slurm-12.log", ".nfs0001", "lock", "status.json.rank0.partial", "train.toml"})
        write_raw(run + "/" + name, "x");
    BOOST_TEST(refusal() == "");
    for (const char* name : {"config.json", "notes.txt", "model.safetensors"}) {
        write_raw(run + "/" + name, "x");
        BOOST_TEST(says(refusal(), {run, name, "is no run folder", "--run"}), refusal());
        write_raw(run + "/manifest.json", "{\"a\": 1}");  // somebody else's
        BOOST_TEST(says(refusal(), {"is no run folder"}), refusal());
        write_raw(run + "/manifest.json", "{\"options\": {}, \"trainable\": {}}");
        BOOST_TEST(refusal() == "");
        remove_file(run + "/manifest.json");
        create_run_folder(run);
        write_raw(checkpoint_folder(run) + "/" + checkpoint_name(3), "x");
        BOOST_TEST(refusal() == "");
        remove_file(checkpoint_folder(run) + "/" + checkpoint_name(3));
        remove_file(run + "/" + name);
    }
    BOOST_TEST(refusal() == "");
}

/// Other programs use names like ours, too.
BOOST_AUTO_TEST_CASE(folders_of_other_programs) {
    for (const auto& [file, content] : {std::pair{"manifest.json", "{\"a\": 1}"},
                                        {"status.json", "{\"state\": \"busy\"}"},
                                        {"checkpoints/latest", "global_step100"},
                                        {"checkpoints/step-5.pt", "x"},
                                        {"ranks/players.txt", "x"}}) {
        const TemporaryFolder folder;
        const std::string path = folder / file;
        create_folders(folder_of(path));
        write_raw(path, content);
        BOOST_TEST(says(sentence_of([&] { require_run_folder(folder.path()); }), {"is no run folder"}), file);
    }
    const TemporaryFolder ours;  // killed before the manifest was written
    create_run_folder(ours.path());
    write_rank_state(ours.path(), {0, "token", "host", 1, 1, 1, false, 0});
    update_status(ours.path(), {{"state", "failed"}});
    write_raw(ours / "metrics.jsonl", "");
    BOOST_TEST(sentence_of([&] { require_run_folder(ours.path()); }) == "");
}

BOOST_AUTO_TEST_CASE(files_that_only_end_like_ours) {
    const TemporaryFolder folder;
    const std::string run = folder / "run";
    std::filesystem::create_directories(checkpoint_folder(run));
    const std::vector<std::string> theirs{"film.partial", "lock.partial", "status.json.Mine.partial",
                                          "step-1.h5.partial"};
    const std::vector<std::string> ours{"manifest.json.partial",
                                        "status.json.watchdog3.partial",
                                        "latest.partial",
                                        "lock.0123456789abcdef.partial",
                                        "metrics.discarded.jsonl.partial",
                                        "step-00000012.h5.partial",
                                        "step-00000012.h5.0123456789abcdef.partial"};
    for (const std::string& name : ours)
        write_raw(checkpoint_folder(run) + "/" + name, "x"), write_raw(run + "/" + name, "x");
    BOOST_TEST(sentence_of([&] { require_run_folder(run); }) == "");
    for (const std::string& name : theirs) {
        write_raw(run + "/" + name, "work");
        BOOST_TEST(says(sentence_of([&] { require_run_folder(run); }), {name, "is no run folder"}), name);
        remove_file(run + "/" + name);
    }
    for (const std::string& name : theirs)
        write_raw(checkpoint_folder(run) + "/" + name, "work"), write_raw(run + "/" + name, "work");
    remove_partials(run);
    for (const std::string& place : {run, checkpoint_folder(run)}) {
        for (const std::string& name : theirs) BOOST_TEST(file_exists(place + "/" + name), name);
        for (const std::string& name : ours) BOOST_TEST(!file_exists(place + "/" + name), name);
    }
}

/// cp -al and cp -rs make folders that share files. Each run writes into its own.
BOOST_AUTO_TEST_CASE(copies_by_links_stay_as_they_are) {
    const TemporaryFolder folder;
    const std::string run = folder / "run", hard = folder / "hard", soft = folder / "soft";
    create_run_folder(run);
    MetricsLog log(run);
    log.append({{"step", 1}});
    write_rank_state(run, {0, "token", "host", 1, 1, 1, false, 0});
    namespace fs = std::filesystem;
    fs::copy(run, hard, fs::copy_options::recursive | fs::copy_options::create_hard_links);
    create_run_folder(soft);
    for (const char* name : {"/metrics.jsonl", "/ranks/0"}) fs::create_symlink(run + name, soft + name);
    const std::string heartbeat = read_text_file(run + "/ranks/0");
    for (const std::string& copy : {hard, soft}) {
        MetricsLog(copy).append({{"step", 2}});
        write_rank_state(copy, {0, "another", "host", 2, 2, 2, false, 0});
        BOOST_TEST(read_text_file(copy + "/metrics.jsonl") == "{\"step\":1}\n{\"step\":2}\n");
        BOOST_TEST(read_text_file(run + "/metrics.jsonl") == "{\"step\":1}\n");
        BOOST_TEST(read_text_file(run + "/ranks/0") == heartbeat);
    }
    fs::create_hard_link(run + "/metrics.jsonl", folder / "snapshot");  // while the run goes on
    BOOST_TEST(log.append({{"step", 3}}) == "");
    BOOST_TEST(read_text_file(folder / "snapshot") == "{\"step\":1}\n");
    BOOST_TEST(read_text_file(run + "/metrics.jsonl") == "{\"step\":1}\n{\"step\":3}\n");
    // What a killed process left is emptied under its own name only.
    write_raw(folder / "status.json.partial", "left");
    fs::create_hard_link(folder / "status.json.partial", folder / "linked");
    write_text_file(folder / "status.json", "new");
    BOOST_TEST(read_text_file(folder / "linked") == "left");
}

BOOST_AUTO_TEST_CASE(metrics_that_somebody_removes) {
    const TemporaryFolder folder;
    const std::string path = folder / "metrics.jsonl";
    MetricsLog log(folder.path());
    BOOST_TEST(log.append({{"step", 1}}) == "");
    remove_file(path);
    const std::string note = log.append({{"step", 2}});
    BOOST_TEST(says(note, {"removed " + path, "new file"}), note);
    BOOST_TEST(log.append({{"step", 3}}) == "");
    BOOST_TEST(read_text_file(path) == "{\"step\":2}\n{\"step\":3}\n");
    write_text_file(path, "edited\n");
    BOOST_TEST(says(log.append({{"step", 4}}), {"replaced " + path}));
    BOOST_TEST(read_text_file(path) == "edited\n{\"step\":4}\n");
    log.sync();
}

BOOST_AUTO_TEST_CASE(resume_leaves_each_step_once) {
    const TemporaryFolder folder;
    const std::string path = folder / "metrics.jsonl", discarded = folder / "metrics.discarded.jsonl";
    BOOST_TEST(discard_metrics_after(folder.path(), 0) == 0);  // no metrics yet
    {
        MetricsLog log(folder.path());
        for (int step = 1; step <= 5; ++step) log.append({{"step", step}, {"loss", 1.0 / step}});
        log.append({{"event", "checkpoint"}, {"step", 3}});
    }
    const std::string before = read_text_file(path);
    write_raw(path, before + "{\"step\": 6, \"lo");  // killed while writing
    BOOST_TEST(discard_metrics_after(folder.path(), 3) == 2);
    const std::string kept = line(1, 1.0) + line(2, 0.5) + line(3, 1.0 / 3) + "{\"event\":\"checkpoint\",\"step\":3}\n";
    BOOST_TEST(read_text_file(path) == kept);
    BOOST_TEST(read_text_file(discarded) == line(4, 0.25) + line(5, 0.2));
    BOOST_TEST(discard_metrics_after(folder.path(), 3) == 0);  // nothing more to discard

    // Killed after the first of the two files was written. The second call adds nothing to metrics.discarded.jsonl.
    write_raw(path, before);
    BOOST_TEST(discard_metrics_after(folder.path(), 3) == 2);
    BOOST_TEST(read_text_file(path) == kept);
    BOOST_TEST(read_text_file(discarded) == line(4, 0.25) + line(5, 0.2));

    // A resumed run appends to the lines kept. When its own lines are discarded, they follow those discarded before.
    MetricsLog log(folder.path());
    log.append({{"step", 4}, {"loss", 9.0}});
    BOOST_TEST(read_text_file(path) == kept + line(4, 9.0));
    BOOST_TEST(discard_metrics_after(folder.path(), 3) == 1);
    BOOST_TEST(read_text_file(discarded) == line(4, 0.25) + line(5, 0.2) + line(4, 9.0));
}

BOOST_AUTO_TEST_CASE(a_last_line_without_its_end) {
    const TemporaryFolder folder;
    write_raw(folder / "metrics.jsonl", line(1, 1.0) + "{\"loss\":2.0,\"step\":2}");  // only the newline is missing
    BOOST_TEST(discard_metrics_after(folder.path(), 5) == 0);
    BOOST_TEST(read_text_file(folder / "metrics.jsonl") == line(1, 1.0) + line(2, 2.0));
    write_raw(folder / "metrics.jsonl", "garbage\n" + line(1, 1.0));  // a line of unknown origin is discarded, not lost
    BOOST_TEST(discard_metrics_after(folder.path(), 5) == 1);
    BOOST_TEST(read_text_file(folder / "metrics.jsonl") == line(1, 1.0));
    BOOST_TEST(read_text_file(folder / "metrics.discarded.jsonl") == "garbage\n");
}

BOOST_AUTO_TEST_CASE(manifest_and_status) {
    const TemporaryFolder folder;
    create_run_folder(folder / "run");
    BOOST_TEST(is_folder(folder / "run/checkpoints"));
    write_manifest(folder / "run", {{"options", {{"lr", 2e-5}}}});
    BOOST_TEST(read_json_file(folder / "run/manifest.json")["options"]["lr"].get<double>() == 2e-5);
    BOOST_TEST(read_status(folder / "run").empty());
    update_status(folder / "run", {{"state", "running"}, {"exit_code", Json()}, {"starts", 2}});
    BOOST_TEST(read_json_file(folder / "run/status.json")["exit_code"].is_null());
    update_status(folder / "run", {{"state", "stopped"}, {"exit_code", 75}, {"step", 12}}, "watchdog1");
    const Json status = read_status(folder / "run");
    BOOST_TEST(status["state"] == "stopped");
    BOOST_TEST(status["exit_code"] == 75);
    BOOST_TEST(status["step"] == 12);
    BOOST_TEST(status["starts"] == 2);  // kept from the earlier update
    const auto updated = status["updated"].get<std::string>();
    BOOST_TEST(updated.size() == 20u);
    BOOST_TEST((updated[10] == 'T' && updated.back() == 'Z'));
    BOOST_TEST(!file_exists(folder / "run/status.json.partial"));
    BOOST_TEST(!file_exists(folder / "run/status.json.watchdog1.partial"));
    write_raw(folder / "run/status.json", "{\"state\": \"run");  // a damaged status is replaced
    BOOST_TEST(read_status(folder / "run").empty());
    update_status(folder / "run", {{"state", "done"}});
    BOOST_TEST(read_status(folder / "run")["state"] == "done");
}

BOOST_AUTO_TEST_SUITE_END()
