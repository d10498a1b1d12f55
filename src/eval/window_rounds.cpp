// Example with two stages and three windows, which pass to the next stage between rounds:
//
//   round      0   1   2   3
//   stage 0    w0  w1  w2
//   stage 1        w0  w1  w2
#include "eval/window_rounds.h"

#include <algorithm>

namespace longlora {
namespace {

double loss_over(Model& model, const MicroBatch& batch, ConstTensor out) {
    Device& device = model.device();
    const ArenaTensor sum = device.memory().tensor(DType::float64, {}, Use::workspace),
                      host = device.pinned().tensor(DType::float64, {}, Use::workspace);
    host->data<double>()[0] = 0;
    device.copy_to_device(sum, host, Device::compute_stream());
    model.loss(batch, out, sum);
    device.copy_to_host(host, sum, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    return host->data<double>()[0];
}

/// Sends this stage's output to the next stage if it is not empty. If `expected`, receives and returns the output of
/// the previous stage.
ArenaTensor hand_on(const Model& model, parallel::MeshCommunicators& mesh, const ArenaTensor& out, bool expected) {
    std::vector<parallel::Send> sends;
    std::vector<parallel::Receive> receives;
    ArenaTensor input;
    if (out && !model.stage().has_head) sends.push_back({mesh.at.pipeline + 1, out});
    if (expected && !model.stage().has_embedding) {
        input = model.stage_input(1);
        receives.push_back({mesh.at.pipeline - 1, input});
    }
    if (mesh.forward) mesh.forward->exchange(sends, receives, Device::compute_stream()).finish();
    return input;
}

/// A data rank without a window in this round still opens and closes weights together with the others (ZeRO 3).
void walk_through(Model& model) {
    model.idle_forward();
    if (model.stage().has_head) model.idle_loss();
}

}  // namespace

WindowTokens window_tokens(std::span<const std::int32_t> window, std::int64_t first_target,
                           parallel::Shard own_tokens) {
    std::vector<std::int32_t> labels = next_token_labels(window);
    std::fill(labels.begin(), labels.begin() + (first_target - 1), -1);  // label t is token t + 1
    const std::int64_t length = window.size();
    return {local_part(window, length, own_tokens), local_part(labels, length, own_tokens)};
}

std::vector<double> window_losses(Model& model, parallel::MeshCommunicators& mesh, WindowCount windows,
                                  const BeginRound& begin_round) {
    std::vector<double> losses;
    ArenaTensor input;
    const auto is_own = [&](std::int64_t i) { return i >= 0 && i < windows.own; };
    for (std::int64_t round = 0; round < windows.most + mesh.shape.pipeline - 1; ++round) {
        const std::int64_t i = round - mesh.at.pipeline;
        const WindowTokens tokens = begin_round(is_own(i) ? i : -1);
        ArenaTensor out;
        if (is_own(i)) {
            const MicroBatch batch = model.micro_batch(tokens.ids, tokens.labels);
            out = model.output(batch, std::move(input));
            if (model.stage().has_head) losses.push_back(loss_over(model, batch, out));
        } else if (i >= 0 && i < windows.most) {
            walk_through(model);
        }
        input = hand_on(model, mesh, out, is_own(i + 1));
    }
    return losses;
}

}  // namespace longlora
