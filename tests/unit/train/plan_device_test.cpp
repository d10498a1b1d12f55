// Whole training steps on the device that computes nothing. Its memory is inaccessible, so host code that touches
// device memory dies; each step runs in a child process, so that the test can say which one died. Planned memory and
// FLOPs equal those of a real step on the CPU. Plans of meshes are tested by tests/unit/train/mesh_memory_test.cpp.
#include <omp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <csignal>

#include "tests/support/tiny_model.h"
#include "train/plan.h"

using namespace longlora;
using namespace longlora::model_testing;

namespace {

/// The wait status of a child process that runs `work`; 0 if `work` ended without an error.
template <class Work> int status_of_child(const Work& work) {
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGSEGV, SIG_DFL);  // Boost.Test's own handler would turn it into an exception
        std::signal(SIGABRT, SIG_DFL);
        omp_set_num_threads(1);  // threads do not survive fork
        try {
            work();
        } catch (...) {
            ::_exit(1);
        }
        ::_exit(0);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return status;
}

PlanRequest request_of(const TrainableSet& trainables, const AttentionPattern& pattern, std::int64_t context,
                       DType real = DType::float32) {
    PlanRequest request;
    request.config = tiny_config();
    request.trainables = trainables;
    request.weights.real = request.weights.frozen = real;
    request.pattern = pattern;
    request.context = context;
    request.step.global_batch = 5;
    request.step.micro_batch = 2;
    return request;
}

TrainableSet plain_lora() {
    TrainableSet set = all_adapters();
    set.method = Method::lora;
    return set;
}

struct Used {
    std::int64_t arena_bytes = 0;
    std::array<std::int64_t, kNumUses> by_use{};
    Recorder recorder;
};

/// The same step on the CPU.
Used real_step(const PlanRequest& request, const ActivationPlan& activations) {
    Fixture f(request.config, request.trainables, request.pattern, request.context,
              {.real = request.weights.real, .frozen = request.weights.frozen});
    fill_lively(*f.weights);
    auto alone = parallel::make_mesh(*f.device, MPI_COMM_SELF, {});
    const StepScalars scalars(*f.device);
    const Batch local =
        make_batch(random_tokens(request.step.global_batch * request.context, 9), request.context, {0, request.context},
                   std::vector<std::vector<std::int64_t>>(static_cast<std::size_t>(request.step.global_batch), {0}));
    f.device->recorder().clear();
    BOOST_CHECK(train_step(*f.model, alone, scalars, local, request.step, activations, 1, 1).finite);
    return {f.device->memory().high_water_bytes(), f.device->memory().at_peak(), f.device->recorder()};
}

void check_plan(const PlanRequest& request, const ActivationPlan& activations) {
    const StepPlan plan = plan_step(request, activations);
    const Used used = real_step(request, activations);
    BOOST_CHECK_EQUAL(plan.arena_bytes, used.arena_bytes);
    BOOST_CHECK_EQUAL_COLLECTIONS(plan.by_use.begin(), plan.by_use.end(), used.by_use.begin(), used.by_use.end());
    BOOST_CHECK_EQUAL(plan.recorder.flops(), used.recorder.flops());
    BOOST_CHECK_GT(plan.recorder.flops(), 0);
    for (const auto& [axis, sent] : plan.traffic) BOOST_CHECK_EQUAL(sent.bytes, 0);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(plan_device)

/// Otherwise the tests below could not fail.
BOOST_AUTO_TEST_CASE(touching_device_memory_ends_the_process) {
    const int status = status_of_child([] {
        const auto device = make_plan_device();
        const ArenaTensor x = device->memory().tensor(DType::float32, {4}, Use::workspace);
        *static_cast<volatile float*>(x->data<float>()) = 1;
    });
    BOOST_CHECK_MESSAGE(
        WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) > 1),
        "a process that touched a plan device's memory survived");  // sanitizers exit with their own code
    BOOST_CHECK_EQUAL(status_of_child([] {}), 0);
}

BOOST_AUTO_TEST_CASE(whole_steps_touch_no_device_memory) {
    for (const TrainableSet& trainables : {all_adapters(), plain_lora(), all_weights()})
        for (const AttentionKind kind : {AttentionKind::dense, AttentionKind::shifted, AttentionKind::plain,
                                         AttentionKind::shifted_only, AttentionKind::layers, AttentionKind::sliding})
            for (const DType real : {DType::float32, DType::bfloat16})
                for (const bool mask : {false, true})
                    BOOST_TEST_CONTEXT(name_of(trainables.method) << ", " << name_of(kind) << ", " << name_of(real)
                                                                  << (mask ? ", document mask" : "")) {
                        PlanRequest request = request_of(trainables, {kind, 6}, 19, real);
                        request.step.document_mask = mask;
                        ActivationPlan mixed = keep_nothing(request.config);
                        mixed[0] = {true, false, true, false};
                        mixed[1] = {false, true, false, true};
                        BOOST_CHECK_EQUAL(
                            status_of_child([&] {
                                for (const ActivationPlan& activations :
                                     {keep_nothing(request.config), keep_everything(request.config), mixed})
                                    plan_step(request, activations);
                                // A rank among others, and below a rank without a sequence.
                                request.rank = 1, request.mesh.data = 7;
                                plan_step(request, mixed);
                                request.rank = 0;
                                plan_step(request, mixed);
                            }),
                            0);
                    }
}

BOOST_AUTO_TEST_CASE(evaluation_touches_no_device_memory) {
    BOOST_CHECK_EQUAL(
        status_of_child([] {
            const auto device = make_plan_device();
            Weights weights(*device, tiny_config(), all_adapters(), {DType::bfloat16, DType::bfloat16, false});
            initialise_model(weights, 1);
            Model model(weights, {AttentionKind::layers, 6}, 19);
            const ArenaTensor loss = device->memory().tensor(DType::float64, {}, Use::workspace),
                              logits = device->memory().tensor(DType::float32, {19, kTinyVocabulary}, Use::workspace);
            const MicroBatch batch = batch_of(model, one_sequence(random_tokens(19, 1), {0, 4}));
            model.loss(batch, model.output(batch, {}), loss);
            model.logits(model.output(batch, {}), logits);
        }),
        0);
}

BOOST_AUTO_TEST_CASE(plan_is_what_a_real_step_uses) {
    for (const TrainableSet& trainables : {all_adapters(), plain_lora(), all_weights()})
        for (const auto& [context, group] : {std::pair<std::int64_t, std::int64_t>{2, 1}, {19, 6}, {64, 16}, {200, 50}})
            for (const DType real : {DType::float32, DType::bfloat16})
                for (const bool mask : {false, true})
                    BOOST_TEST_CONTEXT(name_of(trainables.method) << ", context " << context << ", " << name_of(real)
                                                                  << (mask ? ", document mask" : "")) {
                        PlanRequest request = request_of(trainables, {AttentionKind::shifted, group}, context, real);
                        request.step.document_mask = mask;
                        ActivationPlan mixed = keep_nothing(request.config);
                        mixed[0] = {true, true, false, false};
                        for (const ActivationPlan& activations :
                             {keep_nothing(request.config), keep_everything(request.config), mixed})
                            check_plan(request, activations);
                    }
}

BOOST_AUTO_TEST_CASE(plan_of_other_patterns_and_micro_batches) {
    for (const AttentionKind kind : {AttentionKind::dense, AttentionKind::layers, AttentionKind::sliding})
        for (const std::int64_t micro_batch : {1, 3, 5}) {
            PlanRequest request = request_of(all_adapters(), {kind, 7}, 31);
            request.step.micro_batch = micro_batch;
            request.config.tied = micro_batch == 3;
            request.weights.frozen = DType::bfloat16;  // a bfloat16 file, computed in float32
            check_plan(request, keep_nothing(request.config));
        }
}

/// So few micro-batches are enough to plan the peak, as choose_activations() does.
BOOST_AUTO_TEST_CASE(more_micro_batches_need_no_more_memory) {
    for (const int ranks : {1, 2, 4})
        for (const bool kept : {false, true}) {
            PlanRequest one = request_of(all_adapters(), {AttentionKind::shifted, 6}, 50);
            one.mesh.data = ranks;
            one.step.global_batch = 2 * ranks;
            PlanRequest many = one;
            many.step.global_batch = 6 * ranks;
            const ActivationPlan activations = kept ? keep_everything(one.config) : keep_nothing(one.config);
            BOOST_CHECK_EQUAL(plan_step(one, activations).arena_bytes, plan_step(many, activations).arena_bytes);
        }
}

BOOST_AUTO_TEST_CASE(kept_activations_cost_memory_and_save_work) {
    PlanRequest request = request_of(all_adapters(), {AttentionKind::shifted, 16}, 128);
    request.config.num_layers = 6;  // so that the kept activations of all layers exceed the peak of one layer
    const StepPlan nothing = plan_step(request, keep_nothing(request.config)),
                   everything = plan_step(request, keep_everything(request.config));
    for (auto item :
         {&KeptActivations::attention, &KeptActivations::mid, &KeptActivations::qkv, &KeptActivations::gate_up}) {
        ActivationPlan one = keep_nothing(request.config), others = keep_everything(request.config);
        for (std::size_t layer = 0; layer < one.size(); ++layer) one[layer].*item = true, others[layer].*item = false;
        BOOST_CHECK_GT(plan_step(request, one).arena_bytes, nothing.arena_bytes);
        BOOST_CHECK_LT(plan_step(request, one).recorder.flops(), nothing.recorder.flops());
        BOOST_CHECK_LT(plan_step(request, others).arena_bytes, everything.arena_bytes);
        BOOST_CHECK_GT(plan_step(request, others).recorder.flops(), everything.recorder.flops());
    }
}

BOOST_AUTO_TEST_CASE(auto_keeps_as_much_as_fits) {
    const PlanRequest request = request_of(all_adapters(), {AttentionKind::shifted, 16}, 128);
    const auto bytes = [&](const ActivationPlan& activations) { return plan_step(request, activations).arena_bytes; };
    const auto count = [](const ActivationPlan& activations) {
        std::int64_t items = 0;
        for (const KeptActivations& layer : activations)
            items += layer.attention + layer.mid + layer.qkv + layer.gate_up;
        return items;
    };
    const std::int64_t least = bytes(keep_nothing(request.config)), most = bytes(keep_everything(request.config));
    BOOST_REQUIRE_LT(least, most);
    std::int64_t before = -1;
    for (std::int64_t memory = least; memory <= most; memory += (most - least) / 16) {
        const ActivationPlan activations = choose_activations(request, "auto", memory);
        BOOST_CHECK_LE(bytes(activations), memory);
        BOOST_CHECK_GE(count(activations), before);
        before = count(activations);
    }
    BOOST_CHECK_EQUAL(count(choose_activations(request, "auto", most)), 4 * request.config.num_layers);
    BOOST_CHECK_EQUAL(count(choose_activations(request, "all", most)), 0);
    try {
        choose_activations(request, "auto", least - 1);
        BOOST_ERROR("a plan fitted in less memory than the least that a step needs");
    } catch (const Error& e) {
        BOOST_CHECK(e.code == ExitCode::does_not_fit);
    }
}

BOOST_AUTO_TEST_SUITE_END()
