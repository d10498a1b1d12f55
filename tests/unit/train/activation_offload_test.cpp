// --offload activations: layer inputs wait for backward in pinned host memory. No bit of a step changes, less device
// memory is used, and the plan equals the device memory used.
#include <boost/test/unit_test.hpp>

#include "model/activation_offload.h"
#include "tests/support/device_values.h"
#include "tests/support/tiny_model.h"
#include "train/plan.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

ModelConfig deep_config(std::int64_t layers) {
    ModelConfig config = tiny_config();
    config.num_layers = layers;
    return config;
}

struct Used {
    Values gradients, trained;
    double loss = 0;
    std::int64_t arena_bytes = 0, pinned_bytes = 0;
};

PlanRequest request_of(std::int64_t layers, std::int64_t micro_batch, bool offload) {
    PlanRequest request;
    request.config = deep_config(layers);
    request.trainables = all_adapters();
    request.weights.real = request.weights.frozen = DType::float32;
    request.pattern = {AttentionKind::shifted, 16};
    request.context = 200;
    request.step.global_batch = 3;
    request.step.micro_batch = micro_batch;
    request.offload_activations = offload;
    if (kOnGpu) request.own_bytes = cuda_own_bytes();
    return request;
}

/// Two steps; the second one uses updated weights.
Used run(const PlanRequest& request, const ActivationPlan& activations) {
    const auto device = make_test_device(256 << 20);
    Weights weights(*device, request.config, request.trainables, {DType::float32, DType::float32, true});
    fill_lively(weights);
    Model model(weights, request.pattern, request.context, nullptr, request.offload_activations);
    auto alone = parallel::make_mesh(*device, MPI_COMM_SELF, {});
    const StepScalars scalars(*device);
    const Batch local = make_batch(random_tokens(3 * request.context, 9), request.context, {0, request.context},
                                   std::vector<std::vector<std::int64_t>>(3, {0}));
    Used used;
    for (std::int64_t step = 1; step <= 2; ++step)
        used.loss = train_step(model, alone, scalars, local, request.step, activations, step, 1).loss;
    used.arena_bytes = device->memory().high_water_bytes(), used.pinned_bytes = device->pinned().high_water_bytes();
    used.gradients = gradients_of(weights), used.trained = parameters_of(weights);
    return used;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(activation_offload)

/// Every element of every tensor comes back, also those whose gradients would be zero in a step. Tensors are stored
/// while the device still writes them, and come back to addresses that other tensors used in the meantime.
BOOST_AUTO_TEST_CASE(what_was_stored_comes_back) {
    const auto device = make_test_device(8 << 20);
    ActivationOffload offload(*device);
    const std::int64_t count = 1003;
    const auto values_of_tensor = [=](int i) {
        std::vector<float> values(count);
        for (std::int64_t k = 0; k < count; ++k) values[static_cast<std::size_t>(k)] = static_cast<float>(1000 * i + k);
        return values;
    };
    std::vector<ActivationOffload::Stored> stored;
    std::vector<ArenaTensor> on_their_way;  // pinned memory that the device may still read
    for (int i = 0; i < 3; ++i) {
        ArenaTensor x = device->memory().tensor(DType::float32, {count}, Use::activations);
        on_their_way.push_back(send_to_device(*device, x, values_of_tensor(i)));
        stored.push_back(offload.store(std::move(x)));
    }
    offload.settle();
    ArenaTensor other = device->memory().tensor(DType::float32, {3 * count}, Use::activations);
    device->ops().fill(*other, -1);
    other.release();
    for (int i = 2; i >= 0; --i) {
        offload.fetch(stored[static_cast<std::size_t>(i)]);
        const ArenaTensor x = offload.take(stored[static_cast<std::size_t>(i)]);
        BOOST_TEST(read_device<float>(*device, x) == values_of_tensor(i), boost::test_tools::per_element());
    }
}

BOOST_AUTO_TEST_CASE(no_bit_changes_and_the_plan_is_what_is_used) {
    for (const std::int64_t layers : sizes({1, 2, 5}, {3}))
        for (const std::int64_t micro_batch : {1, 2})
            for (const bool everything : {false, true})
                BOOST_TEST_CONTEXT(layers << " layers, micro-batch " << micro_batch
                                          << (everything ? ", everything kept" : "")) {
                    const PlanRequest here = request_of(layers, micro_batch, false),
                                      there = request_of(layers, micro_batch, true);
                    const ActivationPlan activations =
                        everything ? keep_everything(here.config) : keep_nothing(here.config);
                    const Used on_device = run(here, activations), away = run(there, activations);
                    BOOST_CHECK_EQUAL(on_device.loss, away.loss);
                    BOOST_CHECK(on_device.gradients == away.gradients && on_device.trained == away.trained);
                    const StepPlan plan_here = plan_step(here, activations), plan_away = plan_step(there, activations);
                    const std::int64_t input = micro_batch * 200 * here.config.hidden * 4;
                    // At most three inputs are on the device: the last, one being fetched and one in use.
                    if (layers > 2) BOOST_CHECK_LE(plan_away.arena_bytes, plan_here.arena_bytes - (layers - 3) * input);
                    if (layers > 1) BOOST_CHECK_GE(plan_away.pinned_bytes, (layers - 1) * input);
                    BOOST_CHECK_EQUAL(away.arena_bytes, plan_away.arena_bytes);
                    BOOST_CHECK_EQUAL(on_device.arena_bytes, plan_here.arena_bytes);
                    BOOST_CHECK_GE(away.pinned_bytes, (layers - 1) * input);
                }
}

/// Without the layer inputs, more of the other activations fit on the device.
BOOST_AUTO_TEST_CASE(auto_keeps_more) {
    const PlanRequest here = request_of(5, 1, false), there = request_of(5, 1, true);
    const auto kept = [](const ActivationPlan& activations) {
        std::int64_t items = 0;
        for (const KeptActivations& layer : activations)
            items += layer.attention + layer.mid + layer.qkv + layer.gate_up;
        return items;
    };
    const std::int64_t limit = plan_step(here, keep_nothing(here.config)).arena_bytes;
    BOOST_CHECK_GT(kept(choose_activations(there, "auto", limit)), kept(choose_activations(here, "auto", limit)));
}

BOOST_AUTO_TEST_SUITE_END()
