// The order of sums is fixed, so the same mesh gives the same bits: first micro-batches in order into one buffer, then
// ranks in order. With ZeRO 2 and 3 it is the other way round.
#include "train/step.h"

#include <cmath>

#include "train/pipeline.h"

namespace longlora {
namespace {

std::int64_t ceil_of(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The rank's sequences as micro-batches. All ranks have as many as the rank with the most sequences needs.
MicroBatches micro_batches_of(Model& model, const parallel::MeshCommunicators& mesh, const Batch& batch,
                              const StepOptions& options) {
    const std::int64_t n = model.own_tokens().count, sequences = static_cast<std::int64_t>(batch.tokens.size()) / n,
                       most = ceil_of(options.global_batch, mesh.shape.data);
    ensure(!options.document_mask || static_cast<std::int64_t>(batch.document_starts.size()) == sequences,
           "with a document mask, the batch says where documents begin");
    const auto count_of = [=, size = options.micro_batch](std::int64_t i) {
        return std::clamp<std::int64_t>(sequences - i * size, 0, size);
    };
    const auto make = [&model, &batch, &options, n, count_of](std::int64_t i) {
        const std::size_t first = i * options.micro_batch, count = count_of(i), width = n;
        const auto part = [&](const std::vector<std::int32_t>& all) {
            return std::span(all).subspan(first * width, count * width);
        };
        std::vector<std::vector<std::int64_t>> documents;
        if (options.document_mask)
            documents.assign(batch.document_starts.begin() + first, batch.document_starts.begin() + first + count);
        return model.micro_batch(part(batch.tokens), part(batch.labels), documents);
    };
    return {ceil_of(most, options.micro_batch), count_of, make};
}

/// The first and the last stage both have a copy of a tied table. Each adds the gradients of both, so that the copies
/// stay equal.
void add_gradients_of_copies(Model& model, parallel::MeshCommunicators& mesh) {
    const Stage& stage = model.stage();
    Weights& weights = model.weights();
    if (!model.config().tied || mesh.shape.pipeline == 1 || stage.has_embedding == stage.has_head ||
        weights.own(kEmbeddingUnit).count == 0)
        return;
    const Tensor own = weights.own_gradient(kEmbeddingUnit);
    const ArenaTensor other = model.device().memory().tensor(own.dtype, own.shape, Use::exchange);
    const int peer = stage.has_embedding ? mesh.shape.pipeline - 1 : 0;
    mesh.forward->exchange({{peer, own}}, {{peer, other}}, Device::compute_stream()).finish();
    model.device().ops().add(own, other);  // a + b and b + a have the same bits
}

/// The mean of `count` terms that have this sum. The mean of no terms is 0, as their sum.
double mean_of(double sum, std::int64_t count) { return count ? sum / static_cast<double>(count) : 0; }

/// Adds the squares of the gradients for which this rank alone answers.
void add_squares(Weights& weights, Tensor sum_squares) {
    for (std::int64_t unit = 0; unit < weights.num_units(); ++unit) {
        const parallel::Shard sole = weights.sole(unit);
        if (sole.count)
            weights.device().ops().sum_squares(
                sum_squares, weights.own_gradient(unit).slice(sole.begin - weights.own(unit).begin, sole.count));
    }
}

/// x (float64) becomes its sum over all ranks of the mesh: first over the ranks of each stage, then over the stages.
void sum_over_mesh(parallel::MeshCommunicators& mesh, Tensor x) {
    mesh.data->all_reduce(x, Device::compute_stream()).finish();
    if (mesh.forward) mesh.forward->all_reduce(x, Device::compute_stream()).finish();
}

}  // namespace

StepScalars::StepScalars(Device& device)
    : device_(device),
      sums_(device.memory().tensor(DType::float64, {2}, Use::workspace)),
      scale_(device.memory().tensor(DType::float32, {}, Use::workspace)),
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

void step_gradients(Model& model, parallel::MeshCommunicators& mesh, const StepScalars& scalars, const Batch& batch,
                    const StepOptions& options, const ActivationPlan& activations) {
    scalars.clear();
    model.zero().clear_gradients();
    run_micro_batches(model, mesh, micro_batches_of(model, mesh, batch, options), scalars.loss_sum(),
                      static_cast<float>(mean_of(1, batch.num_predictions)), activations);
    model.zero().finish_gradients();
    add_gradients_of_copies(model, mesh);
}

StepResult train_step(Model& model, parallel::MeshCommunicators& mesh, const StepScalars& scalars, const Batch& batch,
                      const StepOptions& options, const ActivationPlan& activations, std::int64_t step,
                      double lr_factor) {
    step_gradients(model, mesh, scalars, batch, options, activations);
    add_squares(model.weights(), scalars.sum_squares());
    sum_over_mesh(mesh, scalars.sums());
    model.device().ops().clip_scale(
        scalars.clip_scale(), {.sum_squares = scalars.sum_squares(), .loss_sum = scalars.loss_sum()}, options.clip);
    optimizer_step(model.weights(), options.optimizer, lr_factor, step, scalars.clip_scale());
    model.zero().share_update();
    const auto [loss_sum, sum_squares] = scalars.read();
    return {mean_of(loss_sum, batch.num_predictions), std::sqrt(sum_squares),
            std::isfinite(loss_sum) && std::isfinite(sum_squares)};
}

}  // namespace longlora
