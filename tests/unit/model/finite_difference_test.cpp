// The whole tiny model against plain double loops: losses and logits, and the gradient of every trainable against
// central differences of the plain model's loss, along a random direction that all elements of a tensor share and for
// single elements. Central differences in double are accurate to about 1e-9 here; our model computes in float32.
#include <boost/test/unit_test.hpp>

#include "tests/support/plain_model.h"
#include "tests/support/tiny_model.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

constexpr std::int64_t kContext = 13;  // not a multiple of the group
constexpr double kStep = 1e-4, kBudget = 1e-4;

struct Problem {
    TinyFixture ours;
    reference::PlainModel plain;
    Sequences s;

    Problem(const TrainableSet& trainables, const AttentionPattern& pattern, bool tied,
            const std::vector<std::int64_t>& starts)
        : ours(trainables, pattern, kContext, {}, tied),
          plain(plain_model_of(*ours.weights, pattern, kContext, {.document_starts = starts})),
          s(one_sequence(random_tokens(kContext, 1), starts)) {
        s.labels[4] = -1;  // a prediction that is not counted
    }
    double plain_loss() const { return reference::forward(plain, s.tokens, s.labels).loss_sum; }

    /// Derivative of the plain model's loss along `direction` of the named parameter.
    double difference(const std::string& name, const std::vector<double>& direction) {
        std::vector<double>& values = plain.parameters.at(name).values;
        const std::vector<double> before = values;
        double loss[2];
        for (const int sign : {0, 1}) {
            for (std::size_t i = 0; i < values.size(); ++i)
                values[i] = before[i] + (sign ? -kStep : kStep) * direction[i];
            loss[sign] = plain_loss();
        }
        values = before;
        return (loss[0] - loss[1]) / (2 * kStep);
    }
};

void check_tensor(Problem& problem, const std::string& name, const std::vector<float>& gradient) {
    const std::size_t count = gradient.size();
    std::vector<double> direction(count);
    double expected = 0;
    for (std::size_t i = 0; i < count; ++i)
        direction[i] = random_normal(3, stream_of(name), i) / std::sqrt(static_cast<double>(count));
    for (std::size_t i = 0; i < count; ++i) expected += direction[i] * static_cast<double>(gradient[i]);
    // The usual size of one element, and of a derivative along such a direction.
    const double size = norm(gradient) / std::sqrt(static_cast<double>(count));
    BOOST_CHECK_GT(size, 1e-4);
    BOOST_TEST_CONTEXT(name << " along a direction")
    BOOST_CHECK_LE(std::abs(problem.difference(name, direction) - expected), kBudget * size);
    for (std::uint64_t sample = 0; sample < 4; ++sample) {
        const std::size_t at = random_below(count, 3, stream_of(name) + 1, sample);
        std::fill(direction.begin(), direction.end(), 0);
        direction[at] = 1;
        BOOST_TEST_CONTEXT(name << " element " << at)
        BOOST_CHECK_LE(std::abs(problem.difference(name, direction) - static_cast<double>(gradient[at])),
                       kBudget * size);
    }
}

void check(const TrainableSet& trainables, const AttentionPattern& pattern, bool tied = false,
           const std::vector<std::int64_t>& starts = {}) {
    Problem problem(trainables, pattern, tied, starts);
    const reference::PlainForward forward = reference::forward(problem.plain, problem.s.tokens, problem.s.labels);
    BOOST_CHECK_LE(std::abs(loss_of(*problem.ours.model, problem.s) - forward.loss_sum), 2e-6 * forward.loss_sum);
    BOOST_CHECK_LE(relative_l2(logits_of(*problem.ours.model, problem.s), forward.logits.values), 5e-6);
    const double loss =
        loss_and_gradients(*problem.ours.model, problem.s, 1, keep_nothing(problem.ours.weights->config()));
    BOOST_CHECK_LE(std::abs(loss - forward.loss_sum), 2e-6 * forward.loss_sum);
    const Values gradients = gradients_of(*problem.ours.weights);
    const reference::Parameters plain_gradients =
        reference::backward(problem.plain, forward, problem.s.tokens, problem.s.labels, 1);
    for (const auto& [name, gradient] : gradients) {
        check_tensor(problem, name, gradient);
        // The plain backward pass must agree too, since other tests derive budgets from it.
        BOOST_TEST_CONTEXT(name)
        BOOST_CHECK_LE(relative_l2(gradient, plain_gradients.at(name).values), kBudget);
    }
    BOOST_TEST_MESSAGE(gradients.size() << " tensors");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(finite_differences)

BOOST_AUTO_TEST_CASE(adapters_embedding_norms_and_head) { check(all_adapters(), {AttentionKind::shifted, 5}); }
BOOST_AUTO_TEST_CASE(everything) { check(all_weights(), {AttentionKind::shifted, 4}); }
BOOST_AUTO_TEST_CASE(everything_tied) { check(all_weights(), {AttentionKind::layers, 3}, true); }
BOOST_AUTO_TEST_CASE(adapters_tied_with_documents) {
    check(all_adapters(), {AttentionKind::shifted, 6}, true, {0, 2, 9});
}
BOOST_AUTO_TEST_CASE(dense) { check(all_adapters(), {AttentionKind::dense, 0}); }

BOOST_AUTO_TEST_SUITE_END()
