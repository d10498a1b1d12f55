// The golden cases computed in bfloat16, on every instruction set. Without bfloat16 instructions operands are
// widened, so no instruction set is skipped.
//
// Budget of a tensor: ||ours - golden|| <= 2 ||plain - golden|| + 1e-4 ||golden||. `plain` is tests/reference/model.h
// with every stored value rounded to bfloat16 and exact arithmetic in between. So the first term is the error of any
// implementation that stores the same values in bfloat16, twice, because single roundings may be lucky; the second
// term is the float32 budget for our sums. Budget of a loss: the same with the mean over tokens of |plain - golden|,
// since a mean of signed errors can vanish by chance.
#include <boost/test/unit_test.hpp>

#include "tests/support/golden.h"
#include "tests/support/plain_model.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

constexpr double kFloatBudget = 1e-4, kFloatLossBudget = 2e-5;

/// Negative log likelihood of each token's label; 0 for a token without a label.
template <class Logits>
std::vector<double> token_losses(const Logits& logits, const std::vector<std::int32_t>& labels) {
    const std::size_t width = logits.size() / labels.size();
    std::vector<double> out;
    for (std::size_t t = 0; t < labels.size(); ++t) {
        const auto row = logits.begin() + static_cast<std::ptrdiff_t>(t * width);
        double most = -INFINITY, sum = 0;
        for (std::size_t i = 0; i < width; ++i)
            most = std::max(most, static_cast<double>(row[static_cast<std::ptrdiff_t>(i)]));
        for (std::size_t i = 0; i < width; ++i)
            sum += std::exp(static_cast<double>(row[static_cast<std::ptrdiff_t>(i)]) - most);
        out.push_back(labels[t] < 0 ? 0 : most + std::log(sum) - static_cast<double>(row[labels[t]]));
    }
    return out;
}

struct Measure {
    double worst = 0;  ///< largest share of a budget that was used

    void within(const std::string& what, double error, double budget) {
        BOOST_TEST_CONTEXT(what << ": error " << error << ", budget " << budget) BOOST_CHECK_LE(error, budget);
        worst = std::max(worst, error / budget);
    }
    template <class Ours, class Plain>
    void tensor(const std::string& what, const Ours& ours, const Plain& plain, const std::vector<float>& expected) {
        within(what, distance(ours, expected), 2 * distance(plain, expected) + kFloatBudget * norm(expected));
    }
};

/// prefix is "dense." or "s2.".
void check(const golden::Case& c, const std::string& prefix, const TrainableSet& trainables,
           const AttentionPattern& pattern, const std::vector<std::int64_t>& starts) {
    const Sequences s = one_sequence(c.sequence(0), starts);
    const double predictions = static_cast<double>(num_predictions(c.context(), starts));
    const auto load = [&](Weights& weights) {
        prefix == "s2." ? golden::load_with_adapter(weights, c) : golden::load_base(weights, c);
    };
    Fixture exact(c.config, trainables, pattern, c.context());
    load(*exact.weights);
    const reference::PlainModel plain =
        plain_model_of(*exact.weights, pattern, c.context(), {.bfloat16 = true, .document_starts = starts});
    const reference::PlainForward forward = reference::forward(plain, s.tokens, s.labels);
    const reference::Parameters plain_gradients =
        reference::backward(plain, forward, s.tokens, s.labels, 1 / predictions);
    const std::vector<float> logits = c.array(prefix + "logits");
    const std::vector<double> plain_losses = token_losses(forward.logits.values, s.labels),
                              losses = token_losses(logits, s.labels);
    double loss_error = 0;
    for (std::size_t t = 0; t < losses.size(); ++t) loss_error += std::abs(plain_losses[t] - losses[t]) / predictions;

    for (const char* set : instruction_sets()) BOOST_TEST_CONTEXT(set) {
            Measure measure;
            Fixture f(c.config, trainables, pattern, c.context(), {.real = DType::bfloat16, .instruction_set = set});
            load(*f.weights);
            const double expected = c.number((prefix + "loss").c_str());
            const double loss = loss_and_gradients(*f.model, s, 1 / predictions, keep_nothing(c.config)) / predictions;
            measure.within("loss", std::abs(loss - expected), 2 * loss_error + kFloatLossBudget * expected);
            BOOST_CHECK_GT(std::abs(loss - expected), 1e-7);  // it is not float32
            measure.tensor("logits", logits_of(*f.model, s), forward.logits.values, logits);
            const Values gradients = gradients_of(*f.weights);
            for (const std::string& name : c.names(prefix + "grad."))
                measure.tensor("gradient of " + name, gradients.at(name), plain_gradients.at(name).values,
                               c.array(prefix + "grad." + name));
            BOOST_TEST_MESSAGE(c.path << " " << prefix << " " << set << ": at most " << measure.worst
                                      << " of a budget is used");
        }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(golden_models_in_bfloat16)

BOOST_AUTO_TEST_CASE(with_adapter_shifted) {
    for (const std::string& name : golden::all_cases()) BOOST_TEST_CONTEXT("case " << name) {
            const golden::Case c(name);
            check(c, "s2.", c.adapter_trainables(), c.shifted(), c.document_starts());
        }
}

BOOST_AUTO_TEST_CASE(base_model_dense) {
    for (const std::string& name : golden::all_cases()) BOOST_TEST_CONTEXT("case " << name) {
            const golden::Case c(name);
            if (!c.stripped()) check(c, "dense.", golden::everything(), c.dense(), {});
        }
}

BOOST_AUTO_TEST_SUITE_END()
