// `longlora plan` as a program: the table, the JSON, plans that fit and plans that do not, --find, --max-context, and
// every preset on eight 80 GB devices. Plans of meshes are tested by tests/unit/jobs/plan_mesh_test.cpp.
#include <boost/test/unit_test.hpp>
#include <set>

#include "model/parameters.h"
#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

const std::string kPresets = std::string(SOURCE_FOLDER) + "/jobs/presets/";

Words plan(const std::string& model, const Words& more) { return Words{"plan", "--model", model} + more; }

Json json_of(const Workshop& shop, const std::string& name = "plan.json") {
    return Json::parse(io_testing::slurp(shop / name));
}

/// The model file of a preset: "llama2-7b-100k.toml" -> "llama2-7b.json"
std::string model_of(const std::string& preset) {
    std::string model;
    for (const auto& entry : std::filesystem::directory_iterator(kPresets)) {
        const std::string stem = entry.path().stem();
        if (entry.path().extension() == ".json" && preset.starts_with(stem + "-") && stem.size() + 5 > model.size())
            model = stem + ".json";
    }
    return model;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_command_suite)

/// Parameters of the published models, from their model cards.
BOOST_AUTO_TEST_CASE(presets_are_the_published_models) {
    const std::map<std::string, std::int64_t> published = {
        {"llama2-7b", 6738415616},   {"llama2-13b", 13015864320}, {"llama2-70b", 68976648192},
        {"llama3-8b", 8030261248},   {"llama3-70b", 70553706496}, {"tinyllama-1.1b", 1100048384},
        {"smollm2-135m", 134515008}, {"smollm2-360m", 361821120}, {"smollm2-1.7b", 1711376384}};
    std::set<std::string> models;
    for (const auto& entry : std::filesystem::directory_iterator(kPresets))
        if (entry.path().extension() == ".json") models.insert(entry.path().stem());
    for (const auto& [name, parameters] : published) {
        BOOST_TEST(models.count(name) == 1u, name);
        BOOST_TEST(
            list_parameters(read_config(kPresets + name + ".json"), nothing_trainable()).total_elements() == parameters,
            name);
    }
    BOOST_TEST(models.size() == published.size());
}

BOOST_AUTO_TEST_CASE(every_preset_fits_eight_devices_of_80_gb) {
    const Workshop shop;
    std::set<std::string> models;
    for (const auto& entry : std::filesystem::directory_iterator(kPresets)) {
        const std::string preset = entry.path().filename();
        if (entry.path().extension() != ".toml") continue;
        BOOST_TEST_CONTEXT(preset) {
            const std::string model = model_of(preset);
            BOOST_REQUIRE(!model.empty());
            models.insert(model);
            const Outcome outcome = shop.done(plan(kPresets + model, {"--config", kPresets + preset, "--ranks", "8",
                                                                      "--machine", "a100-80g", "--json", "plan.json"}));
            BOOST_TEST(outcome.out.find("fits: yes") != std::string::npos, outcome.out);
            const Json written = json_of(shop);
            BOOST_TEST(written["fits"] == true);
            BOOST_TEST(
                (double(written["device_memory"]["used"]) <= 80e9 && double(written["ranks"][0]["bytes_total"]) > 1e9));
        }
    }
    BOOST_TEST(models.size() == 9u);  // every model has a preset
}

/// The presets have the contexts of the paper, and a much longer context does not fit.
BOOST_AUTO_TEST_CASE(contexts_of_the_paper) {
    const Workshop shop;
    for (const auto& [preset, context] :
         {std::pair{"llama2-7b-100k", 100000}, {"llama2-13b-64k", 65536}, {"llama2-70b-32k", 32768}}) {
        const Words words = plan(kPresets + model_of(preset), {"--config", kPresets + preset + ".toml", "--ranks", "8",
                                                               "--machine", "a100-80g", "--json", "plan.json"});
        shop.done(words);
        BOOST_TEST(json_of(shop)["context"] == context);
        if (std::string(preset).starts_with("llama2-70b"))
            BOOST_TEST(shop.run(words + Words{"--context", "1000000"}).code == 3);
    }
}

BOOST_AUTO_TEST_CASE(the_table_and_its_json) {
    const Workshop shop;
    const Words words = plan("model", {"--context", "64", "--global-batch", "6", "--ranks", "8", "--pipeline", "2",
                                       "--sequence", "2", "--zero", "2", "--machine", "h100", "--json", "plan.json"});
    const Outcome outcome = shop.done(words + Words{"--rank", "5"});
    for (const char* part :
         {"pipeline 2 x data 2 x sequence 2, ZeRO 2", "NVIDIA H100", "rank 5", "weights", "moments", "cuda_context",
          "nccl_buffers", "pinned buffers", "checkpoint snapshot", "matrix products", "attention", "pipeline",
          "sequence", "tokens/s", "an estimate, not a measurement", "fits: yes", "bfloat16"})
        BOOST_TEST(outcome.out.find(part) != std::string::npos, "'" << part << "' is not in\n" << outcome.out);
    BOOST_TEST(outcome.out.find("at most (documents") == std::string::npos);
    // plan accepts --device as train does, but plans for --machine.
    BOOST_TEST(shop.done(words + Words{"--rank", "5", "--device", "cuda"}).out == outcome.out);
    const Json written = json_of(shop);
    BOOST_REQUIRE(written["ranks"].size() == 1u);
    const Json& rank = written["ranks"][0];
    BOOST_TEST(rank["rank"] == 5);
    BOOST_TEST(rank["coordinate"].dump() == R"({"data":0,"pipeline":1,"sequence":1})");
    double in_use = 0;
    for (const auto& [use, bytes] : rank["bytes"].items()) in_use += double(bytes);
    BOOST_TEST((in_use > 0 && in_use <= double(rank["bytes_total"])));
    BOOST_TEST(double(rank["flops"]) > 0);
    BOOST_TEST(double(rank["seconds"]) > 0);
    BOOST_TEST(double(rank["seconds"]) <= double(written["seconds"]));
    for (const char* axis : {"pipeline", "data", "sequence"}) {
        double by_unit = 0;
        for (const auto& [unit, what] : rank["by_unit"].items())
            if (what.contains("traffic") && what["traffic"].contains(axis))
                by_unit += double(what["traffic"][axis]["bytes"]);
        BOOST_TEST(by_unit == double(rank["traffic"][axis]["bytes"]), axis);
        BOOST_TEST(double(rank["traffic"][axis]["messages"]) > 0, axis);
    }
    BOOST_TEST(written["micro_batches"] == 3);
    BOOST_TEST(written["traffic_is_upper_bound"] == false);

    const Outcome all = shop.done(words + Words{"--rank", "all", "--document-mask"});
    BOOST_TEST(all.out.find("at most (documents") != std::string::npos, all.out);
    const Json of_all = json_of(shop);
    BOOST_REQUIRE(of_all["ranks"].size() == 8u);
    for (int r = 0; r < 8; ++r) BOOST_TEST(of_all["ranks"][r]["rank"] == r);
    BOOST_TEST(of_all["traffic_is_upper_bound"] == true);

    shop.done(words, 2);  // two ranks plan for eight
    BOOST_TEST(json_of(shop)["ranks"].size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_plan_that_does_not_fit_is_shown_and_reported) {
    const Workshop shop;
    const Outcome outcome = shop.run(plan("model", {"--context", "64", "--memory", "100KB", "--json", "plan.json"}));
    BOOST_TEST(outcome.code == 3, outcome.err);
    BOOST_TEST(sentences_of(outcome.err).size() == 1u, outcome.err);
    BOOST_TEST(outcome.out.find("TOO MUCH") != std::string::npos, outcome.out);
    BOOST_TEST(outcome.out.find("fits: no") != std::string::npos, outcome.out);
    const Json written = json_of(shop);
    BOOST_TEST(written["fits"] == false);
    BOOST_TEST(double(written["device_memory"]["used"]) > double(written["device_memory"]["limit"]));
    const std::int64_t needed = written["ranks"][0]["bytes_total"];
    shop.done(plan("model", {"--context", "64", "--recompute", "all", "--memory", std::to_string(needed)}));
    BOOST_TEST(shop.run(plan("model", {"--context", "64", "--memory", std::to_string(needed - 1)})).code == 3);
    BOOST_TEST(shop.run(plan("model", {"--context", "64", "--ranks", "8", "--find", "--memory", "100KB"})).code == 3);
    BOOST_TEST(shop.run(plan("model", {"--ranks", "8", "--max-context", "--memory", "100KB"})).code == 3);
}

BOOST_AUTO_TEST_CASE(find_gives_the_times_of_plan) {
    const Workshop shop;
    const Words base = plan(
        kPresets + "smollm2-135m.json",
        {"--context", "16384", "--ranks", "8", "--machine", "a100-80g", "--global-batch", "16", "--json", "plan.json"});
    const double begin = now_seconds();
    const Outcome outcome = shop.done(base + Words{"--find"});
    BOOST_TEST_MESSAGE("found in " << now_seconds() - begin << " s");
    const Json found = json_of(shop)["found"];
    BOOST_REQUIRE(found.size() >= 5u);
    double before = 0;
    for (const Json& one : found) {
        BOOST_TEST(double(one["seconds"]) >= before);
        before = one["seconds"];
        BOOST_TEST(outcome.out.find(one["options"].get<std::string>()) != std::string::npos);
    }
    for (const Json& one : {found[0], found[found.size() - 1]}) {
        std::istringstream options(one["options"].get<std::string>());
        Words words = base;
        for (std::string word; options >> word;) words.push_back(word);
        shop.done(words);
        BOOST_CHECK_CLOSE(double(json_of(shop)["seconds"]), double(one["seconds"]), 1e-6);
    }
}

BOOST_AUTO_TEST_CASE(the_longest_context) {
    const Workshop shop;
    const Words base = plan("model", {"--ranks", "4", "--global-batch", "4", "--recompute", "all", "--memory", "40MB",
                                      "--json", "plan.json"});
    const auto longest = [&](const Words& more) -> std::int64_t {
        shop.done(base + more + Words{"--max-context"});
        const Json written = json_of(shop);
        BOOST_TEST(written["fits"] == true);
        return written["context"];
    };
    const std::int64_t alone = longest({}), shared = longest({"--sequence", "4"}), found = longest({"--find"});
    BOOST_TEST((alone >= 1024 && alone % 1024 == 0));
    BOOST_TEST(shared > 2 * alone);
    BOOST_TEST(found >= shared);
    BOOST_TEST(longest({"--sequence", "4", "--group", "2000"}) >= shared);  // smaller halos
    BOOST_TEST(longest({"--group", "1000000"}) >= 1024);                    // larger than any context that fits
    shop.done(base + Words{"--context", std::to_string(shared), "--sequence", "4"});
    BOOST_TEST(
        shop.run(base + Words{"--context", std::to_string(shared + shared / 10 + 1024), "--sequence", "4"}).code == 3);
}

BOOST_AUTO_TEST_CASE(bad_questions) {
    const Workshop shop;
    io_testing::spill(shop / "bad.toml", "name = \"x\"\n[device]\nspeed = [1, \"x\"]\n");
    const Words good = plan("model", {"--context", "64"});
    shop.refused(good + Words{"--machine", "b100"}, {"--machine b100", "a100-80g, cpu, h100"});
    shop.refused(good + Words{"--machine", "bad.toml"}, {"bad.toml", "device.speed"});
    shop.refused(good + Words{"--machine", "model"}, {"model"});
    shop.refused(good + Words{"--ranks", "4", "--rank", "4"}, {"--rank 4"});
    shop.refused(good + Words{"--rank", "first"}, {"--rank", "'first'"});
    shop.refused(good + Words{"--ranks", "6", "--sequence", "4"}, {"--sequence 4", "6"});
    shop.refused(good + Words{"--ranks", "4", "--pipeline", "4"}, {"3"});  // layers
    shop.refused(good + Words{"--ranks", "9999999"}, {"--ranks"});
    shop.refused(plan("missing.json", {"--context", "64"}), {"missing.json"});
}

BOOST_AUTO_TEST_CASE(heads_that_gpus_do_not_support) {
    const Workshop shop;
    Json config = Json::parse(io_testing::slurp(shop / "model/config.json"));
    config["head_dim"] = 20;
    std::filesystem::create_directories(shop / "odd-heads");
    write_text_file(shop / "odd-heads/config.json", config.dump());
    const Words words = plan("odd-heads", {"--context", "64", "--machine"});
    shop.refused(words + Words{"h100"}, {"H100", "head_dim of 20", "--machine cpu"});
    shop.refused(words + Words{"a100-80g", "--max-context"}, {"A100", "head_dim of 20"});
    shop.done(words + Words{"cpu"});
}

BOOST_AUTO_TEST_SUITE_END()
