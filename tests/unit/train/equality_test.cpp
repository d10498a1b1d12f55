// Equal steps: kept or recomputed activations, micro-batches, tiles, a mask of one document, a second run. Results have
// the same bits, except where sums are added in another order.
#include <boost/test/unit_test.hpp>

#include "tests/support/preconditions.h"
#include "tests/support/tiny_model.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

struct Outcome {
    double loss_sum = 0;
    Values gradients;
    bool operator==(const Outcome&) const = default;
};

/// Loss sum and gradients of a step over `sequences` sequences.
Outcome outcome_of(Fixture& f, std::int64_t sequences, std::int64_t micro_batch, const ActivationPlan& activations,
                   const std::vector<std::vector<std::int64_t>>& starts = {}) {
    auto alone = parallel::make_plan_mesh(*f.device, {}, 0);  // one rank sends nothing
    const StepScalars scalars(*f.device);
    StepOptions options;
    options.global_batch = sequences;
    options.micro_batch = micro_batch;
    options.document_mask = !starts.empty();
    const std::int64_t n = f.model->context_length();
    std::vector<std::int32_t> tokens = random_tokens(sequences * n, 6);
    for (std::int32_t& token : tokens) token = token % static_cast<std::int32_t>(f.model->config().vocabulary);
    step_gradients(*f.model, alone, scalars, make_batch(tokens, n, {0, n}, starts), options, activations);
    return {scalars.read().first, gradients_of(*f.weights)};
}

void check_close(const Outcome& a, const Outcome& b, double budget) {
    BOOST_CHECK_LE(std::abs(a.loss_sum - b.loss_sum), budget * b.loss_sum);
    for (const auto& [name, gradient] : a.gradients)
        BOOST_TEST_CONTEXT(name) BOOST_CHECK_LE(relative_l2(gradient, b.gradients.at(name)), budget);
}

/// Keep nothing, keep everything, one item in one layer only, and all but one item in one layer.
std::vector<ActivationPlan> keep_plans(const ModelConfig& config) {
    std::vector<ActivationPlan> plans = {keep_nothing(config), keep_everything(config)};
    for (auto item :
         {&KeptActivations::attention, &KeptActivations::mid, &KeptActivations::qkv, &KeptActivations::gate_up}) {
        ActivationPlan one = keep_nothing(config), all_but_one = keep_everything(config);
        one[0].*item = true;
        all_but_one[1].*item = false;
        plans.push_back(one);
        plans.push_back(all_but_one);
    }
    return plans;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(equalities)

BOOST_AUTO_TEST_CASE(kept_activations_change_no_bit) {
    for (const DType real : {DType::float32, DType::bfloat16})
        for (const TrainableSet& trainables : {all_adapters(), all_weights()})
            for (const AttentionKind kind : {AttentionKind::shifted, AttentionKind::layers})
                for (const char* set : instruction_sets())
                    BOOST_TEST_CONTEXT(name_of(real)
                                       << ", " << name_of(trainables.method) << ", " << name_of(kind) << ", " << set) {
                        TinyFixture f(trainables, {kind, 6}, 19, {.real = real, .instruction_set = set});
                        const auto plans = keep_plans(f.model->config());
                        const Outcome expected = outcome_of(f, 3, 2, plans[0]);
                        for (std::size_t i = 0; i < plans.size(); ++i)
                            BOOST_CHECK_MESSAGE(outcome_of(f, 3, 2, plans[i]) == expected, "plan " << i);
                        // Computing no gradients does not change the loss.
                        const Sequences s = one_sequence(random_tokens(19, 8));
                        BOOST_CHECK_EQUAL(loss_of(*f.model, s), loss_and_gradients(*f.model, s, 1, plans[0]));
                    }
}

BOOST_AUTO_TEST_CASE(two_runs_have_the_same_bits) {
    for (const DType real : {DType::float32, DType::bfloat16}) {
        const auto run = [&] {
            TinyFixture f(all_weights(), {AttentionKind::shifted, 6}, 33, {.real = real, .num_threads = 2});
            return outcome_of(f, 4, 3, keep_nothing(f.model->config()));
        };
        BOOST_CHECK(run() == run());
    }
}

BOOST_AUTO_TEST_CASE(micro_batches) {
    for (const bool tied : {false, true})
        for (const TrainableSet& trainables : {all_adapters(), all_weights()}) {
            TinyFixture f(trainables, {AttentionKind::shifted, 6}, 19, {}, tied);
            const ActivationPlan activations = keep_everything(f.model->config());
            const std::vector<std::vector<std::int64_t>> starts = {{0},          {0, 5},  {-2, 7, 11},
                                                                   {0, 1, 2, 3}, {0, 18}, {0, 9}};
            for (const auto& documents : {std::vector<std::vector<std::int64_t>>{}, starts}) {
                const Outcome one = outcome_of(f, 6, 1, activations, documents);
                for (const std::int64_t micro_batch : {2, 3, 4, 6}) BOOST_TEST_CONTEXT("micro-batch " << micro_batch)
                check_close(outcome_of(f, 6, micro_batch, activations, documents), one, 1e-6);
            }
            check_close(outcome_of(f, 6, 2, keep_nothing(f.model->config()), starts),
                        outcome_of(f, 6, 3, activations, starts), 1e-6);
        }
}

BOOST_AUTO_TEST_CASE(a_mask_of_one_document_is_no_mask) {
    for (const AttentionKind kind :
         {AttentionKind::dense, AttentionKind::shifted, AttentionKind::layers, AttentionKind::sliding}) {
        TinyFixture f(all_adapters(), {kind, 6}, 19);
        const ActivationPlan activations = keep_nothing(f.model->config());
        const Outcome without = outcome_of(f, 2, 2, activations);
        BOOST_CHECK(outcome_of(f, 2, 2, activations, {{0}, {0}}) == without);
        // Documents that began before the sequence.
        BOOST_CHECK(outcome_of(f, 2, 2, activations, {{-7}, {-9, -1, 0}}) == without);
        BOOST_CHECK(!(outcome_of(f, 2, 2, activations, {{0}, {0, 1}}) == without));
    }
}

/// The model is so wide that MLP and head are computed in tiles of 64 tokens. With three sequences of 60 tokens in a
/// micro-batch, tiles begin and end within sequences; with one sequence there is only one tile.
BOOST_AUTO_TEST_CASE(
    tiles, *only_on_cpus("tiles are the same on every device, and 200,000 columns take long in the simulation")) {
    ModelConfig config = tiny_config();
    config.num_layers = 1, config.hidden = 8, config.num_heads = 2, config.head_dim = 4,
    config.intermediate = config.vocabulary = 200000;
    BOOST_REQUIRE_EQUAL(tile_rows(config.intermediate), 64);
    for (const TrainableSet& trainables : {all_adapters(), all_weights()}) {
        Fixture f(config, trainables, {AttentionKind::shifted, 16}, 60);
        fill_lively(*f.weights);
        const Outcome one = outcome_of(f, 3, 1, keep_nothing(config));
        const Outcome three = outcome_of(f, 3, 3, keep_nothing(config));
        check_close(three, one, 1e-5);  // sums of 200,000 terms
        BOOST_CHECK(outcome_of(f, 3, 3, keep_everything(config)) == three);
    }
}

BOOST_AUTO_TEST_SUITE_END()
