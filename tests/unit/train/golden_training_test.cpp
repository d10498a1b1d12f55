// Ten steps of AdamW from the adapter of each golden case against those of transformers and peft: losses, gradient
// norms, trained values. Then the trained model with dense attention, which computes the same as the merged model.
#include <boost/test/unit_test.hpp>

#include "tests/support/golden.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

constexpr double kLossBudget = 2e-5, kTensorBudget = 1e-4;

Batch sequences_of(const golden::Case& c, std::int64_t step) {
    std::vector<std::int32_t> tokens;
    for (std::int64_t i = 0; i < 2; ++i) {
        const std::vector<std::int32_t> sequence =
            c.sequence((2 * (step - 1) + i) % c.json.at("sequences").get<std::int64_t>());
        tokens.insert(tokens.end(), sequence.begin(), sequence.end());
    }
    return make_batch(tokens, c.context(), {0, c.context()}, {2, c.document_starts()});
}

StepOptions options_of(const golden::Case& c, std::int64_t micro_batch) {
    StepOptions options;
    options.global_batch = 2;
    options.micro_batch = micro_batch;
    options.document_mask = !c.document_starts().empty();
    options.optimizer.lr = options.optimizer.lr_embedding = options.optimizer.lr_norm = 1e-3;
    return options;
}

void check(const char* what, double ours, double expected, double budget) {
    BOOST_TEST_CONTEXT(what << " " << ours << " instead of " << expected)
    BOOST_CHECK_LE(std::abs(ours - expected), budget * expected);
}

void train_ten_steps(const golden::Case& c, Fixture& f, std::int64_t micro_batch) {
    auto alone = parallel::make_plan_mesh(*f.device, {}, 0);  // one rank sends nothing
    const StepScalars scalars(*f.device);
    for (std::int64_t step = 1; step <= 10; ++step) BOOST_TEST_CONTEXT("step " << step) {
            const StepResult result =
                train_step(*f.model, alone, scalars, sequences_of(c, step), options_of(c, micro_batch),
                           keep_nothing(c.config), step, std::min(1.0, static_cast<double>(step) / 3));
            BOOST_CHECK(result.finite);
            check("loss", result.loss, c.json.at("train.losses")[static_cast<std::size_t>(step - 1)], kLossBudget);
            check("gradient norm", result.grad_norm, c.json.at("train.grad_norms")[static_cast<std::size_t>(step - 1)],
                  kTensorBudget);
        }
}

/// Compares the trained values with the arrays trained.NAME of the golden case; returns the number of these arrays.
std::size_t check_trained(const golden::Case& c, const Values& before, const Values& after) {
    const auto names = c.names("trained.");
    for (const std::string& name : names) {
        BOOST_REQUIRE(after.count(name) == 1);
        BOOST_TEST_CONTEXT("trained " << name) {
            BOOST_CHECK_LE(relative_l2(after.at(name), c.array("trained." + name)), kTensorBudget);
            // Training changed the values by so much that a parameter that was not trained would be noticed.
            BOOST_CHECK_GT(relative_l2(before.at(name), c.array("trained." + name)), 10 * kTensorBudget);
        }
    }
    return names.size();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(golden_training)

BOOST_AUTO_TEST_CASE(ten_steps) {
    for (const std::string& name : kOnGpu ? std::vector<std::string>{"gqa-odd-tied", "documents"} : golden::all_cases())
        BOOST_TEST_CONTEXT("case " << name) {
            const golden::Case c(name);
            Fixture f(c.config, c.adapter_trainables(), c.shifted(), c.context());
            golden::load_with_adapter(*f.weights, c);
            const Values before = parameters_of(*f.weights);
            train_ten_steps(c, f, 1);
            std::size_t trainables = 0;
            for (const Parameter& p : f.weights->list().parameters) {
                trainables += p.trainable;
                if (!p.trainable)
                    BOOST_CHECK_MESSAGE(f.weights->get(p) == before.at(p.name), p.name << " is frozen and changed");
            }
            BOOST_CHECK_EQUAL(check_trained(c, before, parameters_of(*f.weights)), trainables - c.stripped());

            Model dense(*f.weights, c.dense(), c.context());
            const Sequences s = one_sequence(c.sequence(0));
            check("merged loss", loss_of(dense, s) / static_cast<double>(c.context() - 1), c.number("merged.loss"),
                  kLossBudget);
            if (!c.stripped())
                BOOST_CHECK_LE(relative_l2(logits_of(dense, s), c.array("merged.logits")), kTensorBudget);
        }
}

BOOST_AUTO_TEST_CASE(both_sequences_in_one_micro_batch) {
    for (const char* name : sizes({"gqa-odd-tied", "documents"}, {"gqa-odd-tied"})) {
        const golden::Case c(name);
        Fixture f(c.config, c.adapter_trainables(), c.shifted(), c.context());
        golden::load_with_adapter(*f.weights, c);
        train_ten_steps(c, f, 2);
    }
}

/// Reads the trained values as the adapter that peft wrote.
BOOST_AUTO_TEST_CASE(trained_adapters_of_peft) {
    for (const char* name : {"mha", "gqa-odd-tied"}) {
        const golden::Case c(name);
        const Adapter adapter = open_adapter(c.path + "/trained-adapter", c.config);
        Fixture f(c.config, adapter.trainables, c.dense(), c.context());
        golden::load_base(*f.weights, c);
        load_adapter(*f.weights, adapter);
        const Sequences s = one_sequence(c.sequence(0));
        check("merged loss", loss_of(*f.model, s) / static_cast<double>(c.context() - 1), c.number("merged.loss"),
              kLossBudget);
        BOOST_CHECK_LE(relative_l2(logits_of(*f.model, s), c.array("merged.logits")), kTensorBudget);
    }
}

BOOST_AUTO_TEST_SUITE_END()
