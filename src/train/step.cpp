// Order of sums: micro-batches in order into one buffer, then ranks in order, so the same mesh gives the same bits.
#include "train/step.h"

#include <cmath>

namespace longlora {
namespace {

MicroBatch micro_batch_of(Model& model, const LocalSequences& local, std::int64_t first, std::int64_t count, bool document_mask) {
    const std::int64_t n = model.context_length();
    const std::span<const std::int32_t> tokens(local.tokens.data() + first * n, static_cast<std::size_t>(count * n));
    std::vector<std::int32_t> labels;
    for (std::int64_t s = 0; s < count; ++s) {
        const auto next = next_token_labels(tokens.subspan(static_cast<std::size_t>(s * n), static_cast<std::size_t>(n)));
        labels.insert(labels.end(), next.begin(), next.end());
    }
    std::vector<std::vector<std::int64_t>> documents;
    if (document_mask) documents.assign(local.document_starts.begin() + first, local.document_starts.begin() + first + count);
    return make_micro_batch(model.device(), tokens, labels, n, model.pattern(), model.config().num_heads, documents, model.windows());
}

void clear_gradients(Weights& weights) {
    for (std::int64_t unit = 0; unit < weights.num_units(); ++unit)
        if (const auto& g = weights.buffers(unit).gradient) weights.device().ops().fill(g, 0);
}

}  // namespace

StepScalars::StepScalars(Device& device)
    : device_(device), sums_(device.memory().tensor(DType::float64, {2}, Use::workspace)), scale_(device.memory().tensor(DType::float32, {}, Use::workspace)),
      host_(device.pinned().tensor(DType::float64, {2}, Use::workspace)) {}

void StepScalars::clear() const {
    host_->data<double>()[0] = host_->data<double>()[1] = 0;
    device_.copy_to_device(sums_, host_, Device::compute_stream());
}

std::pair<double, double> StepScalars::read() const {
    device_.copy_to_host(host_, sums_, Device::compute_stream());
    device_.synchronize(Device::compute_stream());
    return {host_->data<double>()[0], host_->data<double>()[1]};
}

void step_gradients(Model& model, dist::Communicator& data, const StepScalars& scalars, const LocalSequences& local, const StepOptions& options, const KeepPlan& keep) {
    const std::int64_t n = model.context_length(), sequences = static_cast<std::int64_t>(local.tokens.size()) / n;
    const double predictions = static_cast<double>(options.global_batch) * static_cast<double>(n - 1);
    Weights& weights = model.weights();
    scalars.clear();
    clear_gradients(weights);
    std::vector<dist::Request> sums;   // of units, while backward goes on with the ones before
    const auto sum_over_ranks = [&](std::int64_t unit) {
        if (const auto& g = weights.buffers(unit).gradient) sums.push_back(data.all_reduce(g, Device::compute_stream()));
    };
    for (std::int64_t first = 0; first < sequences; first += options.micro_batch) {
        const std::int64_t count = std::min(options.micro_batch, sequences - first);
        const bool last = first + count == sequences;
        const MicroBatch batch = micro_batch_of(model, local, first, count, options.document_mask);
        model.loss_and_gradients(batch, scalars.loss_sum(), static_cast<float>(1 / predictions), keep, last ? sum_over_ranks : std::function<void(std::int64_t)>{});
    }
    if (sequences == 0)
        for (std::int64_t unit = weights.num_units() - 1; unit >= 0; --unit) sum_over_ranks(unit);
    for (auto& sum : sums) sum.finish();
    data.all_reduce(scalars.loss_sum().reshaped({1}), Device::compute_stream()).finish();
}

StepResult train_step(Model& model, dist::Communicator& data, const StepScalars& scalars, const LocalSequences& local, const StepOptions& options, const KeepPlan& keep,
                      std::int64_t step, double lr_factor) {
    step_gradients(model, data, scalars, local, options, keep);
    Weights& weights = model.weights();
    Ops ops = model.device().ops();
    for (std::int64_t unit = 0; unit < weights.num_units(); ++unit)
        if (const auto& g = weights.buffers(unit).gradient) ops.sum_squares(scalars.sum_squares(), g);
    ops.clip_scale(scalars.clip_scale(), scalars.sum_squares(), scalars.loss_sum(), options.clip);
    optimizer_step(weights, options.optimizer, lr_factor, step, scalars.clip_scale());
    const auto [loss_sum, sum_squares] = scalars.read();
    const double predictions = static_cast<double>(options.global_batch) * static_cast<double>(model.context_length() - 1);
    return {loss_sum / predictions, std::sqrt(sum_squares), std::isfinite(loss_sum) && std::isfinite(sum_squares)};
}

}  // namespace longlora
