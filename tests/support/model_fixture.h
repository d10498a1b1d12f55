// A model on the test device (tests/support/test_device.h) that is made from a config, run on sequences, and read
// back to the host. The tests of model, train and mpi share it. No tests here.
#pragma once

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "tests/support/test_device.h"
#include "train/step.h"

namespace longlora::model_testing {

/// Parameters or gradients by name.
using Values = std::map<std::string, std::vector<float>>;

struct FixtureOptions {
    DType real = DType::float32;
    int num_threads = 1;
    const char* instruction_set = "";
    DType frozen = real;
};

struct Fixture {
    std::unique_ptr<Device> device;
    std::unique_ptr<Weights> weights;
    std::unique_ptr<Model> model;

    Fixture(const ModelConfig& config, const TrainableSet& trainables, const AttentionPattern& pattern,
            std::int64_t context, const FixtureOptions& options = {})
        : device(make_test_device(options.instruction_set, std::int64_t{1} << 30, options.num_threads)),
          weights(std::make_unique<Weights>(*device, config, trainables,
                                            WeightsOptions{options.real, options.frozen, true})),
          model(std::make_unique<Model>(*weights, pattern, context)) {}
};

inline std::vector<float> read(Device& device, Tensor tensor) {
    const Tensor flat = tensor.reshaped({tensor.count()});
    ArenaTensor host = device.pinned().tensor(tensor.dtype, flat.shape, Use::workspace);
    device.copy_to_host(host, flat, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    if (tensor.dtype == DType::float64)
        return std::vector<float>(host->data<double>(), host->data<double>() + flat.count());
    return std::vector<float>(host->data<float>(), host->data<float>() + flat.count());
}

inline Values gradients_of(const Weights& weights) {
    Values values;
    for (const Parameter& p : weights.list().parameters)
        if (p.trainable) values[p.name] = read(weights.device(), weights.gradient(p));
    return values;
}

inline Values parameters_of(const Weights& weights) {
    Values values;
    for (const Parameter& p : weights.list().parameters) values[p.name] = weights.get(p);
    return values;
}

/// Tokens and their labels; the first tokens of the documents where a document mask is wanted.
struct Sequences {
    std::vector<std::int32_t> tokens, labels;
    std::vector<std::vector<std::int64_t>> document_starts;
};

/// One sequence with next-token labels, without those that begin a document. `starts` are the first tokens of its
/// documents; empty: no document mask.
inline Sequences one_sequence(const std::vector<std::int32_t>& tokens, const std::vector<std::int64_t>& starts = {}) {
    Sequences s{tokens, next_token_labels(tokens, starts), {}};
    if (!starts.empty()) s.document_starts.push_back(starts);
    return s;
}

inline MicroBatch batch_of(Model& model, const Sequences& s) {
    return model.micro_batch(s.tokens, s.labels, s.document_starts);
}

/// Returns the sum of the negative log likelihoods. Afterwards the gradient buffers of the model hold the gradients
/// of scale * sum.
inline double loss_and_gradients(Model& model, const Sequences& s, double scale, const ActivationPlan& activations) {
    const StepScalars scalars(model.device());
    scalars.clear();
    model.zero().clear_gradients();
    const MicroBatch batch = batch_of(model, s);
    StageSaved saved = model.forward(batch, {}, activations);
    model.backward(batch, saved, model.loss_gradient(batch, saved, scalars.loss_sum(), static_cast<float>(scale), true),
                   true);
    model.zero().finish_gradients();
    return scalars.read().first;
}

inline double loss_of(Model& model, const Sequences& s) {
    const StepScalars scalars(model.device());
    scalars.clear();
    const MicroBatch batch = batch_of(model, s);
    model.loss(batch, model.output(batch, {}), scalars.loss_sum());
    return scalars.read().first;
}

inline std::vector<float> logits_of(Model& model, const Sequences& s) {
    const ArenaTensor logits = model.device().memory().tensor(
        DType::float32, {static_cast<std::int64_t>(s.tokens.size()), model.config().vocabulary}, Use::activations);
    model.logits(model.output(batch_of(model, s), {}), logits);
    return read(model.device(), logits);
}

template <class A> double norm(const A& x) {
    double sum = 0;
    for (const auto value : x) sum += static_cast<double>(value) * static_cast<double>(value);
    return std::sqrt(sum);
}

/// ||a - b||; infinite when the sizes differ or a value is NaN.
template <class A, class B> double distance(const A& a, const B& b) {
    double sum = a.size() == b.size() ? 0 : INFINITY;
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
        const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
        sum += difference * difference;
    }
    return std::isnan(sum) ? INFINITY : std::sqrt(sum);
}

/// ||ours - expected|| / ||expected||.
template <class A, class B> double relative_l2(const A& ours, const B& expected) {
    return distance(ours, expected) / norm(expected);
}

}  // namespace longlora::model_testing
