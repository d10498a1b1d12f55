// `longlora train --document-mask` on one and several ranks: `predictions` in the metrics is the number of tokens that
// follow a token of their own document in their sequence, and the losses do not depend on the ranks. A step without any
// prediction has loss 0; a file without any is refused.
#include <boost/test/unit_test.hpp>

#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

struct Way {
    int ranks;
    Words options;
};
const std::vector<Way> kWays = {{1, {}},
                                {1, {"--micro-batch", "2"}},
                                {2, {}},
                                {2, {"--sequence", "2", "--zero", "2"}},
                                {2, {"--pipeline", "2"}},
                                {4, {"--sequence", "4", "--zero", "3"}},
                                {4, {"--pipeline", "2", "--sequence", "2"}},
                                {4, {"--zero", "1"}}};

void make_documents(const Workshop& shop, const std::string& name, const std::vector<std::int64_t>& lengths) {
    std::vector<std::vector<std::int32_t>> contents;
    for (const std::int64_t length : lengths) {
        contents.emplace_back();
        for (std::int64_t t = 0; t < length; ++t)
            contents.back().push_back(static_cast<std::int32_t>(random_below(250, 4, contents.size(), t)));
    }
    TokenFileInfo info;
    info.tokenizer_kind = "none";
    info.vocabulary = 256;
    write_token_file(shop / name, info, contents);
}

/// For each step of sequential order, the number of tokens that follow a token of their document in their sequence.
std::vector<std::int64_t> predictions(const std::vector<std::int64_t>& lengths, std::int64_t context,
                                      std::int64_t global_batch, std::size_t steps) {
    std::vector<std::int64_t> out(steps);
    std::int64_t at = 0;
    for (const std::int64_t length : lengths)
        for (std::int64_t t = 0; t < length; ++t, ++at) {
            const auto step = static_cast<std::size_t>(at / (context * global_batch));
            if (step < steps && t > 0 && at % context != 0) ++out[step];
        }
    return out;
}

struct Steps {
    std::vector<std::int64_t> predictions;
    std::vector<double> losses, norms;
};

Steps steps_of(const Workshop& shop) {
    Steps out;
    std::istringstream lines(io_testing::slurp(shop / "run/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);)
        if (const Json json = Json::parse(line); json.contains("loss")) {
            out.predictions.push_back(json["predictions"]);
            out.losses.push_back(json["loss"]);
            out.norms.push_back(json["grad_norm"]);
        }
    std::filesystem::remove_all(shop / "run");
    return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(document_mask)

/// Sequences of 16 tokens, two in a step. Documents begin inside of sequences, with them and with the parts of ranks.
/// The second step has documents of one token alone.
BOOST_AUTO_TEST_CASE(the_loss_is_the_mean_over_predictions_within_documents) {
    const Workshop shop;
    std::vector<std::int64_t> lengths = {7, 1, 12, 12};
    lengths.insert(lengths.end(), 32, 1);
    for (const std::int64_t length : {4, 9, 3, 20, 28}) lengths.push_back(length);
    make_documents(shop, "packed.h5", lengths);
    Words words = with(training("run", 4), "data", "packed.h5") + Words{"--order", "sequential"};
    words = with(with(words, "context", "16"), "global-batch", "2");
    const auto counted = predictions(lengths, 16, 2, 4);
    BOOST_REQUIRE_EQUAL(counted[1], 0);
    Steps one;
    for (const auto& [ranks, options] : kWays) BOOST_TEST_CONTEXT(ranks << " ranks " << line_of(options)) {
            const Outcome outcome = shop.done(words + Words{"--document-mask"} + options, ranks);
            const Steps steps = steps_of(shop);
            BOOST_TEST(steps.predictions == counted, boost::test_tools::per_element());
            BOOST_REQUIRE_EQUAL(steps.losses.size(), 4u);
            BOOST_TEST(((steps.losses[1] == 0) && (steps.norms[1] == 0)));
            BOOST_TEST(outcome.out.find("step 2: no prediction is counted") != std::string::npos, outcome.out);
            BOOST_TEST(outcome.out.find("step 3: no prediction") == std::string::npos, outcome.out);
            if (one.losses.empty()) one = steps;
            for (std::size_t i = 0; i < 4; ++i) {
                BOOST_TEST(std::abs(steps.losses[i] - one.losses[i]) <= 1e-5 * one.losses[i]);
                BOOST_TEST(std::abs(steps.norms[i] - one.norms[i]) <= 1e-3 * one.norms[i]);
            }
        }
    shop.done(words);
    const Steps unmasked = steps_of(shop);
    BOOST_TEST(unmasked.predictions == std::vector<std::int64_t>(4, 2 * 15), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_file_without_predictions_is_refused) {
    const Workshop shop;
    make_documents(shop, "single.h5", std::vector<std::int64_t>(200, 1));
    const Words words = training() + Words{"--document-mask"}, says = {"single.h5", "64 tokens", "--document-mask"};
    for (const int ranks : {1, 2, 4}) {
        shop.refused(with(words, "data", "single.h5"), says, ranks);
        shop.refused(with(words, "data", "data.h5,single.h5"), says, ranks);
    }
    shop.done(with(training(), "data", "single.h5"));
}

BOOST_AUTO_TEST_SUITE_END()
