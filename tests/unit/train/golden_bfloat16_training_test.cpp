// Tests ten steps of training in bfloat16 against two plain trainings in double precision. The exact one must repeat
// the golden losses, so it gives every value of the golden training. The rounded one rounds to bfloat16 every value
// that a bfloat16 implementation stores. Budget: twice the error of the rounded training, plus the float32 budget.
// Training in float32 is tested by tests/unit/train/golden_training_test.cpp.
#include <boost/test/unit_test.hpp>

#include "tests/support/golden.h"
#include "tests/support/plain_model.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

constexpr double kFloatBudget = 1e-4, kFloatLossBudget = 2e-5;
constexpr std::int64_t kSteps = 10, kBatch = 2;

/// The results of a step that are compared.
struct Traces {
    std::vector<double> token_losses;  ///< of the counted predictions of all sequences
    double loss = 0, grad_norm = 0;
    reference::Parameters gradients;
};

class PlainTraining {
public:
    /// Masters stay exact; `rounding` is applied to the weights used for computing and to every stored value.
    PlainTraining(const Weights& weights, const golden::Case& c, double (*rounding)(double))
        : case_(c),
          model_(plain_model_of(weights, c.shifted(), c.context(), {.document_starts = c.document_starts()})) {
        masters_ = model_.parameters;
        model_.stored = rounding;
        for (const Parameter& p : weights.list().parameters)
            if (p.trainable)
                m_[p.name] = v_[p.name] = reference::Values(masters_.at(p.name).rows, masters_.at(p.name).columns);
    }

    Traces step(const std::vector<std::vector<std::int32_t>>& sequences, std::int64_t step, double lr) {
        for (auto& [name, values] : model_.parameters)
            for (std::size_t i = 0; i < values.values.size(); ++i)
                values.values[i] = model_.stored(masters_.at(name).values[i]);
        Traces traces;
        for (const auto& tokens : sequences) add(traces, tokens);
        double squares = 0;
        for (const auto& [name, moments] : m_) squares += std::pow(norm(traces.gradients.at(name).values), 2);
        traces.grad_norm = std::sqrt(squares);
        const double scale = std::min(1.0, 1 / (traces.grad_norm + 1e-6));
        for (auto& [name, moments] : m_)
            for (std::size_t i = 0; i < moments.values.size(); ++i)
                reference::adamw(masters_.at(name).values[i], moments.values[i], v_.at(name).values[i],
                                 traces.gradients.at(name).values[i], scale, lr, 0.9, 0.95, 1e-8, 0.0, step);
        return traces;
    }
    const std::vector<double>& trained(const std::string& name) const { return masters_.at(name).values; }

private:
    void add(Traces& traces, const std::vector<std::int32_t>& tokens) const {
        const std::vector<std::int64_t> starts = case_.document_starts();
        const std::vector<std::int32_t> labels = next_token_labels(tokens, starts);
        const double predictions = static_cast<double>(kBatch * num_predictions(case_.context(), starts));
        const reference::PlainForward forward = reference::forward(model_, tokens, labels);
        // Token by token, since errors can cancel in a sum.
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            if (labels[t] < 0) continue;
            reference::Values row(1, forward.logits.columns);
            for (std::int64_t i = 0; i < row.columns; ++i) row(0, i) = forward.logits(static_cast<std::int64_t>(t), i);
            double loss = 0;
            reference::cross_entropy(loss, row, {labels[t]}, 1.0, false);
            traces.token_losses.push_back(loss);
            traces.loss += loss / predictions;
        }
        for (const auto& [name, gradient] : reference::backward(model_, forward, tokens, labels, 1 / predictions)) {
            auto& sum = traces.gradients[name];
            if (sum.values.empty()) sum = gradient;
            else
                for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += gradient.values[i];
        }
    }

    const golden::Case& case_;
    reference::PlainModel model_;
    reference::Parameters masters_, m_, v_;
};

void within(const std::string& what, double error, double budget) {
    BOOST_TEST_CONTEXT(what << ": error " << error << ", budget " << budget) BOOST_CHECK_LE(error, budget);
}

/// ||a - b|| of the gradients of all trainables; the norms of the gradients cannot differ by more.
double gradient_distance(const Weights& weights, const Traces& a, const Traces& b) {
    double squares = 0;
    for (const Parameter& p : weights.list().parameters)
        if (p.trainable) squares += std::pow(distance(a.gradients.at(p.name).values, b.gradients.at(p.name).values), 2);
    return std::sqrt(squares);
}

void check(const golden::Case& c) {
    Fixture source(c.config, c.adapter_trainables(), c.shifted(), c.context()),
        f(c.config, c.adapter_trainables(), c.shifted(), c.context(), {.real = DType::bfloat16});
    golden::load_with_adapter(*source.weights, c);
    golden::load_with_adapter(*f.weights, c);
    PlainTraining exact(*source.weights, c, [](double x) { return x; }), rounded(*source.weights, c, to_bf16);
    auto alone = parallel::make_plan_mesh(*f.device, {}, 0);  // one rank sends nothing
    const StepScalars scalars(*f.device);
    StepOptions options;
    options.global_batch = kBatch;
    options.document_mask = !c.document_starts().empty();
    options.optimizer.lr = options.optimizer.lr_embedding = options.optimizer.lr_norm = 1e-3;
    for (std::int64_t step = 1; step <= kSteps; ++step) {
        const double factor = std::min(1.0, static_cast<double>(step) / 3),
                     expected = c.json.at("train.losses")[static_cast<std::size_t>(step - 1)];
        std::vector<std::vector<std::int32_t>> sequences;
        std::vector<std::int32_t> tokens;
        for (std::int64_t i = 0; i < kBatch; ++i) {
            sequences.push_back(c.sequence((kBatch * (step - 1) + i) % c.json.at("sequences").get<std::int64_t>()));
            tokens.insert(tokens.end(), sequences.back().begin(), sequences.back().end());
        }
        const Traces e = exact.step(sequences, step, 1e-3 * factor), r = rounded.step(sequences, step, 1e-3 * factor);
        const StepResult ours = train_step(
            *f.model, alone, scalars, make_batch(tokens, c.context(), {0, c.context()}, {kBatch, c.document_starts()}),
            options, keep_nothing(c.config), step, factor);
        double plain_error = 0;
        for (std::size_t t = 0; t < e.token_losses.size(); ++t)
            plain_error += std::abs(e.token_losses[t] - r.token_losses[t]) / static_cast<double>(e.token_losses.size());
        BOOST_TEST_CONTEXT("step " << step) {
            // The exact plain training is the golden training.
            within("loss of the exact plain training", std::abs(e.loss - expected), kFloatLossBudget * expected);
            within("loss", std::abs(ours.loss - expected), 2 * plain_error + kFloatLossBudget * expected);
            within("gradient norm", std::abs(ours.grad_norm - e.grad_norm),
                   2 * gradient_distance(*f.weights, r, e) + kFloatBudget * e.grad_norm);
        }
    }
    for (const Parameter& p : f.weights->list().parameters)
        if (p.trainable)
            within("trained " + p.name, distance(f.weights->get(p), exact.trained(p.name)),
                   2 * distance(rounded.trained(p.name), exact.trained(p.name)) +
                       kFloatBudget * norm(exact.trained(p.name)));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(golden_training_in_bfloat16)

BOOST_AUTO_TEST_CASE(ten_steps) {
    for (const char* name :
         sizes({"gqa-odd-tied", "documents", "wide-heads", "all-targets"}, {"gqa-odd-tied", "wide-heads"}))
        BOOST_TEST_CONTEXT("case " << name) check(golden::Case(name));
}

BOOST_AUTO_TEST_SUITE_END()
