// Training of the demo's model on sequences of 16k and 32k tokens that four ranks share: the losses of one rank, and
// the planned memory and messages. This tests length; irregular shapes are tested by tests/mpi/mesh_training_test.cpp.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "jobs/experiment/setup.h"
#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

const std::string kModel = std::string(SOURCE_FOLDER) + "/jobs/demo/model";

/// The options that the step depends on; words_of() passes the same options to the program.
TrainOptions options_of(std::int64_t context, std::int64_t sequence, std::int64_t zero) {
    TrainOptions o;
    o.model = kModel;
    o.context = context;
    o.group = 1024;
    o.global_batch = 1;
    o.sequence = sequence;
    o.zero = zero;
    return o;
}

Words words_of(const TrainOptions& o, const std::string& run, int steps) {
    return {"train",
            "--model",
            o.model,
            "--data",
            "stream.h5",
            "--run",
            run,
            "--context",
            std::to_string(o.context),
            "--group",
            std::to_string(o.group),
            "--global-batch",
            "1",
            "--sequence",
            std::to_string(o.sequence),
            "--zero",
            std::to_string(o.zero),
            "--recompute",
            "all",
            "--dtype",
            "float32",
            "--lr",
            "1e-3",
            "--warmup",
            "0",
            "--checkpoint-every",
            "0",
            "--steps",
            std::to_string(steps)};
}

struct Metrics {
    std::vector<double> losses;
    Json ranks;  ///< "ranks" of the last line that has it
};
Metrics metrics_of(const std::string& run) {
    Metrics metrics;
    std::istringstream lines(io_testing::slurp(run + "/metrics.jsonl"));
    for (std::string text; std::getline(lines, text);) {
        const Json line = Json::parse(text);
        if (line.contains("loss")) metrics.losses.push_back(line["loss"].get<double>());
        if (line.contains("ranks")) metrics.ranks = line["ranks"];
    }
    return metrics;
}

/// Checks that each rank's arena is within 2 % of the plan's and that its messages and bytes equal the plan's.
void as_planned(const TrainOptions& o, const Json& ranks, int steps) {
    const BaseModel base = open_base_model(o, false);
    WeightsOptions how;
    how.frozen = DType::bfloat16;  // the type of the demo model's file
    how.zero = static_cast<int>(o.zero);
    const parallel::MeshShape mesh = parallel::mesh_shape_of(static_cast<int>(ranks.size()), o.pipeline, o.sequence);
    for (int rank = 0; rank < mesh.num_ranks(); ++rank)
        BOOST_TEST_CONTEXT("rank " << rank << ", context " << o.context) {
            const StepPlan plan = plan_step(plan_request(o, base, how, mesh, rank), keep_nothing(base.config));
            const Json& used = ranks[static_cast<std::size_t>(rank)];
            const double arena = used["arena_high_water_bytes"].get<double>();
            BOOST_CHECK_LE(std::abs(arena - static_cast<double>(plan.arena_bytes)), 0.02 * arena);
            for (const auto& [axis, sent] : plan.traffic) {
                BOOST_CHECK_EQUAL(used["traffic"][axis]["bytes"].get<std::int64_t>(), steps * sent.bytes);
                BOOST_CHECK_EQUAL(used["traffic"][axis]["messages"].get<std::int64_t>(), steps * sent.messages);
            }
            BOOST_CHECK_EQUAL(used["traffic"].size(), plan.traffic.size());
            BOOST_CHECK_GT(plan.traffic.at("sequence").bytes, 0);
        }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(long_streams)

BOOST_AUTO_TEST_CASE(of_16k_and_32k_tokens_on_four_ranks) {
    if (!file_exists(kModel + "/model.safetensors")) {
        BOOST_TEST_MESSAGE("skipped: jobs/demo/model has no weights; jobs/demo/make_model.sh makes them");
        return;
    }
    const Workshop shop;
    std::vector<std::vector<std::int32_t>> documents(5);
    for (std::size_t d = 0; d < documents.size(); ++d)
        for (std::uint64_t t = 0; t < 7000; ++t)
            documents[d].push_back(static_cast<std::int32_t>((5 * t + random_below(9, 3, d, t)) % 1500));
    TokenFileInfo info;
    info.tokenizer_kind = "none";
    info.vocabulary = 4096;
    write_token_file(shop / "stream.h5", info, documents);

    shop.done(words_of(options_of(16384, 1, 0), "one", 2));
    const TrainOptions shared = options_of(16384, 4, 2), longer = options_of(32768, 4, 3);
    shop.done(words_of(shared, "shared", 2), 4);
    const Metrics one = metrics_of(shop / "one"), four = metrics_of(shop / "shared");
    BOOST_REQUIRE_EQUAL(one.losses.size(), 2u);
    BOOST_REQUIRE_EQUAL(four.losses.size(), 2u);
    for (std::size_t step = 0; step < 2; ++step)
        BOOST_CHECK_LE(std::abs(four.losses[step] - one.losses[step]), 5e-5 * one.losses[step]);
    BOOST_CHECK_GT(std::abs(one.losses[1] - one.losses[0]), 1e-3 * one.losses[0]);  // the model has learnt something
    as_planned(shared, four.ranks, 2);

    shop.done(words_of(longer, "longer", 1), 4);
    const Metrics twice = metrics_of(shop / "longer");
    BOOST_REQUIRE_EQUAL(twice.losses.size(), 1u);
    BOOST_CHECK(std::isfinite(twice.losses[0]));
    BOOST_CHECK_LT(std::abs(twice.losses[0] - one.losses[0]), 0.5 * one.losses[0]);  // the same kind of text
    as_planned(longer, twice.ranks, 1);
}

BOOST_AUTO_TEST_SUITE_END()
