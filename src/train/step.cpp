// Order of sums: micro-batches in order into one buffer, then ranks in order (ZeRO 2 and 3: the other way round), so
// the same mesh gives the same bits.
#include "train/step.h"

#include <cmath>

#include "train/pipeline.h"

namespace longlora {
namespace {

constexpr std::int64_t kEmbedding = 0;

std::int64_t ceil_of(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The rank's sequences as micro-batches; as many on every rank as the one with the most sequences needs.
MicroBatches micro_batches_of(Model& model, const parallel::MeshCommunicators& mesh, const LocalSequences& local,
                              const StepOptions& options) {
    const std::int64_t n = model.local().count, sequences = static_cast<std::int64_t>(local.tokens.size()) / n,
                       most = ceil_of(options.global_batch, mesh.shape.data);
    const auto count_of = [=, size = options.micro_batch](std::int64_t i) {
        return std::clamp<std::int64_t>(sequences - i * size, 0, size);
    };
    const auto make = [&model, &local, &options, n, count_of](std::int64_t i) {
        const auto first = static_cast<std::size_t>(i * options.micro_batch),
                   count = static_cast<std::size_t>(count_of(i)), width = static_cast<std::size_t>(n);
        const auto part = [&](const std::vector<std::int32_t>& all) {
            return std::span(all).subspan(first * width, count * width);
        };
        std::vector<std::vector<std::int64_t>> documents;
        if (options.document_mask)
            documents.assign(local.document_starts.begin() + static_cast<std::ptrdiff_t>(first),
                             local.document_starts.begin() + static_cast<std::ptrdiff_t>(first + count));
        return model.micro_batch(part(local.tokens), part(local.labels), documents);
    };
    return {ceil_of(most, options.micro_batch), count_of, make};
}

/// A tied table is on the first and on the last stage: both add both gradients, so that both copies stay the same.
void add_gradients_of_copies(Model& model, parallel::MeshCommunicators& mesh) {
    const Stage& stage = model.stage();
    Weights& weights = model.weights();
    if (!model.config().tied || mesh.shape.pipeline == 1 || stage.has_embedding == stage.has_head ||
        weights.own(kEmbedding).count == 0)
        return;
    const Tensor own = weights.own_gradient(kEmbedding);
    const ArenaTensor other = model.device().memory().tensor(own.dtype, own.shape, Use::exchange);
    const int peer = stage.has_embedding ? mesh.shape.pipeline - 1 : 0;
    mesh.forward->exchange({{peer, own}}, {{peer, other}}, Device::compute_stream()).finish();
    model.device().ops().add(own, other);  // a + b and b + a have the same bits
}

/// Of the parts for which this rank alone answers.
void add_squares(Weights& weights, Tensor sum_squares) {
    for (std::int64_t unit = 0; unit < weights.num_units(); ++unit) {
        const parallel::Shard sole = weights.sole(unit);
        if (sole.count)
            weights.device().ops().sum_squares(
                sum_squares, weights.own_gradient(unit).slice(sole.begin - weights.own(unit).begin, sole.count));
    }
}

/// x (float64) = its sum over all ranks of the mesh: over those of each stage, then over the stages.
void sum_over_mesh(parallel::MeshCommunicators& mesh, Tensor x) {
    mesh.data->all_reduce(x, Device::compute_stream()).finish();
    if (mesh.forward) mesh.forward->all_reduce(x, Device::compute_stream()).finish();
}

}  // namespace

LocalSequences local_sequences(std::span<const std::int32_t> tokens, std::int64_t length, parallel::Shard local,
                               std::vector<std::vector<std::int64_t>> document_starts) {
    std::vector<std::int32_t> labels;
    for (std::size_t row = 0; row < tokens.size(); row += static_cast<std::size_t>(length)) {
        const auto next = next_token_labels(tokens.subspan(row, static_cast<std::size_t>(length)));
        labels.insert(labels.end(), next.begin(), next.end());
    }
    return {local_part(tokens, length, local), local_part(labels, length, local), std::move(document_starts)};
}

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

void step_gradients(Model& model, parallel::MeshCommunicators& mesh, const StepScalars& scalars,
                    const LocalSequences& local, const StepOptions& options, const KeepPlan& keep) {
    const double predictions =
        static_cast<double>(options.global_batch) * static_cast<double>(model.context_length() - 1);
    scalars.clear();
    model.zero().clear_gradients();
    run_micro_batches(model, mesh, micro_batches_of(model, mesh, local, options), scalars.loss_sum(),
                      static_cast<float>(1 / predictions), keep);
    model.zero().finish_gradients();
    add_gradients_of_copies(model, mesh);
}

StepResult train_step(Model& model, parallel::MeshCommunicators& mesh, const StepScalars& scalars,
                      const LocalSequences& local, const StepOptions& options, const KeepPlan& keep, std::int64_t step,
                      double lr_factor) {
    step_gradients(model, mesh, scalars, local, options, keep);
    add_squares(model.weights(), scalars.sum_squares());
    sum_over_mesh(mesh, scalars.sums());
    model.device().ops().clip_scale(scalars.clip_scale(), scalars.sum_squares(), scalars.loss_sum(), options.clip);
    optimizer_step(model.weights(), options.optimizer, lr_factor, step, scalars.clip_scale());
    model.zero().share_update();
    const auto [loss_sum, sum_squares] = scalars.read();
    const double predictions =
        static_cast<double>(options.global_batch) * static_cast<double>(model.context_length() - 1);
    return {loss_sum / predictions, std::sqrt(sum_squares), std::isfinite(loss_sum) && std::isfinite(sum_squares)};
}

}  // namespace longlora
