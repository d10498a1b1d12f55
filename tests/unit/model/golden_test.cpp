// Every golden case in float32, on every instruction set: logits, losses and gradients of the base model with dense
// attention, and of the model with its adapter with shifted sparse attention. Budgets: 2e-5 of a loss, 1e-4 in
// relative L2 of each tensor. tests/unit/train/golden_training_test.cpp tests ten steps of training.
#include <boost/test/unit_test.hpp>
#include <set>

#include "tests/support/golden.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

constexpr double kLossBudget = 2e-5, kTensorBudget = 1e-4;

void for_all_cases(const std::function<void(const golden::Case&, const char* instruction_set)>& test) {
    for (const std::string& name : golden::all_cases())
        for (const char* set : instruction_sets())
            BOOST_TEST_CONTEXT("case " << name << ", " << set) test(golden::Case(name), set);
}

void check_loss(const std::string& what, double ours, double expected) {
    BOOST_TEST_CONTEXT(what << " " << ours << " instead of " << expected)
    BOOST_CHECK_LE(std::abs(ours - expected), kLossBudget * expected);
}

/// Checks the gradients against all arrays whose names begin with the prefix. Returns the trainables without such an
/// array.
std::set<std::string> check_gradients(const golden::Case& c, const std::string& prefix, const Values& gradients) {
    std::set<std::string> left;
    for (const auto& [name, values] : gradients) left.insert(name);
    for (const std::string& name : c.names(prefix)) {
        BOOST_REQUIRE_MESSAGE(gradients.count(name) == 1, name << " has no gradient");
        BOOST_TEST_CONTEXT(prefix << name)
        BOOST_CHECK_LE(relative_l2(gradients.at(name), c.array(prefix + name)), kTensorBudget);
        left.erase(name);
    }
    return left;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(golden_models)

BOOST_AUTO_TEST_CASE(all_eleven_cases_are_present) { BOOST_CHECK_EQUAL(golden::all_cases().size(), 11u); }

BOOST_AUTO_TEST_CASE(base_model_dense) {
    for_all_cases([](const golden::Case& c, const char* set) {
        Fixture f(c.config, golden::everything(), c.dense(), c.context(), {.instruction_set = set});
        golden::load_base(*f.weights, c);
        const Sequences s = one_sequence(c.sequence(0));
        const double predictions = static_cast<double>(c.context() - 1);
        check_loss("loss", loss_of(*f.model, s) / predictions, c.number("dense.loss"));
        if (!c.stripped()) BOOST_CHECK_LE(relative_l2(logits_of(*f.model, s), c.array("dense.logits")), kTensorBudget);
        check_loss("loss with gradients",
                   loss_and_gradients(*f.model, s, 1 / predictions, keep_nothing(c.config)) / predictions,
                   c.number("dense.loss"));
        const std::set<std::string> left = check_gradients(c, "dense.grad.", gradients_of(*f.weights));
        if (!c.stripped())
            BOOST_CHECK_MESSAGE(left.empty(), left.size()
                                                  << " parameters had no golden gradient, such as " << *left.begin());
    });
}

BOOST_AUTO_TEST_CASE(with_adapter_shifted) {
    for_all_cases([](const golden::Case& c, const char* set) {
        Fixture f(c.config, c.adapter_trainables(), c.shifted(), c.context(), {.instruction_set = set});
        golden::load_with_adapter(*f.weights, c);
        const Sequences s = one_sequence(c.sequence(0), c.document_starts());
        const double predictions = static_cast<double>(num_predictions(c.context(), c.document_starts()));
        check_loss("loss", loss_of(*f.model, s) / predictions, c.number("s2.loss"));
        BOOST_CHECK_LE(relative_l2(logits_of(*f.model, s), c.array("s2.logits")), kTensorBudget);
        check_loss("loss with gradients",
                   loss_and_gradients(*f.model, s, 1 / predictions, keep_everything(c.config)) / predictions,
                   c.number("s2.loss"));
        const Values gradients = gradients_of(*f.weights);
        std::set<std::string> left = check_gradients(c, "s2.grad.", gradients);
        if (c.stripped()) BOOST_CHECK_EQUAL(left.erase("model.embed_tokens.weight"), 1u);
        BOOST_CHECK_MESSAGE(left.empty(), left.size()
                                              << " trainables had no golden gradient, such as " << *left.begin());
        double squares = 0;
        for (const auto& [name, values] : gradients) squares += norm(values) * norm(values);
        BOOST_CHECK_LE(std::abs(std::sqrt(squares) - c.number("s2.grad_norm")),
                       kTensorBudget * c.number("s2.grad_norm"));
    });
}

/// Frozen weights that a model's file holds in bfloat16 stay bfloat16 in memory. That loses nothing: only the order
/// of sums may differ.
BOOST_AUTO_TEST_CASE(frozen_weights_kept_in_bfloat16) {
    const golden::Case c("wide-heads");
    const Sequences s = one_sequence(c.sequence(0));
    std::vector<std::vector<float>> logits;
    for (const DType frozen : {DType::float32, DType::bfloat16}) {
        TrainableSet lora = c.adapter_trainables();
        lora.method = Method::lora;
        Fixture f(c.config, lora, c.shifted(), c.context(), {.frozen = frozen});
        if (frozen == DType::bfloat16)
            BOOST_CHECK(frozen_dtype_of(DType::float32, f.weights->list(), SafetensorsFolder(c.path)) ==
                        DType::bfloat16);
        golden::load_with_adapter(*f.weights, c);
        logits.push_back(logits_of(*f.model, s));
        BOOST_CHECK_LE(relative_l2(logits.back(), c.array("s2.logits")), kTensorBudget);
    }
    BOOST_CHECK_LE(relative_l2(logits[0], logits[1]), 1e-6);
}

BOOST_AUTO_TEST_SUITE_END()
