// Every way to train, with two steps each on a tiny model: the training ends, the loss is finite, and evaluations of
// the checkpoint and of its exports agree. Also steps that are not finite, and memory and traffic in metrics and plan.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "run/checkpoint_files.h"
#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

std::vector<Json> lines_of(const std::string& path) {
    std::vector<Json> lines;
    std::istringstream in(io_testing::slurp(path));
    for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
    return lines;
}

/// The mean negative log-likelihood that `longlora evaluate` gives for the model options `model`.
double nll(const Workshop& shop, const Words& model) {
    shop.done(Words{"evaluate", "--data", "data.h5", "--context", "64", "--windows", "8", "--dtype", "float32",
                    "--json", "result.json"} +
              model);
    return Json::parse(io_testing::slurp(shop / "result.json"))["results"][0]["nll"];
}

/// Trains into "run", checks the metrics, evaluates the checkpoint and its exports, and removes all of them.
void works(const Workshop& shop, const Words& arguments) {
    BOOST_TEST_CONTEXT(line_of(arguments)) {
        if (shop.done(arguments).code != 0) return;
        std::int64_t steps = 0;
        for (const Json& line : lines_of(shop / "run/metrics.jsonl"))
            if (line.contains("loss")) {
                ++steps;
                BOOST_TEST(
                    (line["loss"].is_number() && std::isfinite(double(line["loss"])) && double(line["loss"]) < 20),
                    line.dump());
                BOOST_TEST((double(line["grad_norm"]) > 0), line.dump());
            }
        BOOST_TEST(steps == 2);
        const double at_checkpoint = nll(shop, {"--checkpoint", "run"});
        BOOST_TEST((std::isfinite(at_checkpoint) && at_checkpoint > 0 && at_checkpoint < 20));
        shop.done({"export", "run", "merged", "--format", "hf", "--dtype", "float32"});
        const double merged = nll(shop, {"--model", "merged"});
        BOOST_TEST(std::fabs(merged - at_checkpoint) < 1e-6, "checkpoint " << at_checkpoint << ", merged " << merged);
        const bool full = std::find(arguments.begin(), arguments.end(), "full") != arguments.end();
        if (!full) {
            shop.done({"export", "run", "adapter", "--format", "peft", "--dtype", "float32"});
            const double adapted = nll(shop, {"--model", "model", "--adapter", "adapter"});
            BOOST_TEST(std::fabs(adapted - at_checkpoint) < 1e-6,
                       "checkpoint " << at_checkpoint << ", adapter " << adapted);
        }
        for (const char* left : {"run", "merged", "adapter"}) std::filesystem::remove_all(shop / left);
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(training_ways)

BOOST_AUTO_TEST_CASE(methods_and_patterns) {
    const Workshop shop;
    for (const char* method : {"longlora", "lora", "full"}) works(shop, with(training(), "method", method));
    works(shop, with(training(), "train", "embed,norm,lm_head"));
    works(shop, with(training(), "train", "none"));
    works(shop, with(training(), "lora-targets", "q,k,v,o,gate,up,down"));
    works(shop, with(training(), "dtype", "bfloat16"));
    works(shop, with(with(with(training(), "adapter", "model/adapter"), "lora-rank", "4"), "lora-alpha", "8"));
    for (const char* attention : {"dense", "plain", "shifted-only", "layers", "sliding"})
        works(shop, with(training(), "attention", attention));
    works(shop, with(with(training(), "context", "61"), "group", "7"));
    for (const char* group : {"64", "100", "1000000000"}) works(shop, with(training(), "group", group));
}

BOOST_AUTO_TEST_CASE(data_and_schedules) {
    const Workshop shop;
    shop.make_data("other.h5", 256, 10, 2);
    works(shop, training() + Words{"--document-mask"});
    works(shop, with(training(), "data", "data.h5:0.7,other.h5:0.3"));
    works(shop, with(training(), "order", "sequential"));
    for (const char* schedule : {"linear", "cosine"})
        works(shop, with(with(training(), "warmup", "1"), "schedule", schedule));
    for (const char* recompute : {"all", "none"})
        works(shop, with(with(training(), "recompute", recompute), "micro-batch", "2"));
    works(shop, with(training(), "context", "256"));  // beyond the model's 128: rotary scaling
    for (const char* rope : {"ntk", "yarn"}) works(shop, with(with(training(), "context", "256"), "rope", rope));
}

BOOST_AUTO_TEST_CASE(from_scratch) {
    const Workshop shop;
    works(shop, with(with(with(training(), "model", "-"), "init", "model/config.json"), "method", "full"));
    shop.refused(with(with(training(), "model", "-"), "init", "model/config.json"), {"--init", "--method full"});
}

/// An infinite weight, or updates so large that values overflow: exit code 4, and the last checkpoint is good.
BOOST_AUTO_TEST_CASE(not_finite) {
    const Workshop shop;
    std::string weights = io_testing::slurp(shop / "model/model.safetensors");
    const float infinite = INFINITY;
    std::memcpy(weights.data() + weights.size() - 4, &infinite, 4);
    std::filesystem::copy(shop / "model", shop / "bad", std::filesystem::copy_options::recursive);
    io_testing::spill(shop / "bad/model.safetensors", weights);
    for (int ranks : {1, 2}) {
        const std::string run = text("infinite", ranks);
        // With --train embed the norms are frozen, and the infinite weight is in a norm.
        const Outcome outcome = shop.run(with(with(training(run), "model", "bad"), "train", "embed"), ranks);
        BOOST_TEST(outcome.code == 4, outcome.code << outcome.err);
        const Words said = sentences_of(outcome.err);
        BOOST_REQUIRE_EQUAL(said.size(), 1u);
        BOOST_TEST(said[0].find("step 1:") != std::string::npos, said[0]);
        BOOST_TEST(Json::parse(io_testing::slurp(shop / (run + "/status.json")))["exit_code"] == 4);
        shop.done({"inspect", run + "/checkpoints/step-00000000.h5", "--verify"});
        for (const Json& line : lines_of(shop / (run + "/metrics.jsonl")))
            BOOST_TEST(!line.contains("loss"), line.dump());
    }
    const Outcome outcome =
        shop.run(with(with(with(training("wild", 20), "lr", "999"), "method", "full"), "weight-decay", "999"));
    BOOST_TEST(outcome.code == 4, outcome.code << outcome.err);
    const Json status = Json::parse(io_testing::slurp(shop / "wild/status.json"));
    const std::int64_t step = status["step"];
    BOOST_TEST(status["state"] == "failed");
    BOOST_TEST(outcome.err.find(text("step ", step + 1, ":")) != std::string::npos, outcome.err);
    BOOST_TEST(io_testing::slurp(shop / "wild/checkpoints/latest") == checkpoint_name(step) + "\n");
    shop.done({"inspect", "wild", "--verify"});
    shop.done({"export", "wild", "merged"});
    shop.done({"inspect", "merged", "--verify"});  // checks that all values are finite
}

/// plan and train must agree on arena and traffic, since plan runs the same code on a device that computes nothing.
BOOST_AUTO_TEST_CASE(plan_equals_training) {
    const Workshop shop;
    const std::vector<std::pair<int, Words>> ways = {
        {1, {}},
        {1, {"--recompute", "none", "--micro-batch", "2"}},
        {1, {"--method", "full"}},
        {2, {}},
        {2, {"--recompute", "all", "--zero", "2"}},
        {2, {"--method", "full", "--sequence", "2", "--zero", "3"}},
        {2, {"--pipeline", "2", "--recompute", "none"}},
        {3, {"--sequence", "3", "--attention", "dense", "--recompute", "all"}},
        {3, {"--sequence", "3", "--group", "100"}},
        {4, {"--pipeline", "2", "--sequence", "2", "--zero", "1"}},
        {4, {"--pipeline", "2", "--zero", "3", "--micro-batch", "3"}}};
    for (const auto& [ranks, more] : ways) {
        const Words arguments = training("run", 1) + more;
        shop.done(arguments, ranks);
        const Json last = lines_of(shop / "run/metrics.jsonl").back();
        BOOST_REQUIRE_MESSAGE(last.contains("ranks") && last["ranks"].size() == static_cast<std::size_t>(ranks),
                              last.dump());
        Words words = arguments + Words{"--ranks", std::to_string(ranks), "--rank", "all", "--json", "plan.json"};
        words[0] = "plan";
        shop.done(words);
        const Json plan = Json::parse(io_testing::slurp(shop / "plan.json"));
        BOOST_REQUIRE(plan["ranks"].size() == static_cast<std::size_t>(ranks));
        for (int rank = 0; rank < ranks; ++rank) {
            const Json &planned = plan["ranks"][static_cast<std::size_t>(rank)],
                       &used = last["ranks"][static_cast<std::size_t>(rank)];
            const double planned_bytes = planned["bytes_total"], used_bytes = used["arena_high_water_bytes"];
            BOOST_TEST(std::fabs(planned_bytes - used_bytes) <= 0.02 * used_bytes,
                       line_of(words) << ", rank " << rank << ": planned " << planned_bytes << ", used " << used_bytes);
            BOOST_TEST(planned["traffic"].dump() == used["traffic"].dump(),
                       line_of(words) << ", rank " << rank << ": planned " << planned["traffic"].dump() << ", used "
                                      << used["traffic"].dump());
        }
        std::filesystem::remove_all(shop / "run");
    }
}

BOOST_AUTO_TEST_SUITE_END()
