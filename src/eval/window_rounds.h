// Windows through the stages of a mesh, round by round: a stage computes window i in round i + stage and passes it on
// at the round's end, so stages work at the same time, each on a window of its own, and nothing is under way between
// two rounds. Which windows, and what their losses say, is perplexity.h.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/model.h"
#include "parallel/mesh_communicators.h"

namespace longlora {

/// A rank's tokens of a window, and the labels to predict: the next token of the whole window, or -1 where it comes
/// before first_target or after the window.
struct WindowTokens {
    std::vector<std::int32_t> ids, labels;
};
WindowTokens window_tokens(std::span<const std::int32_t> window, std::int64_t first_target, parallel::Shard own_tokens);

/// Windows of this rank's data coordinate, and the most that any has: all walk through as many rounds.
struct WindowCount {
    std::int64_t own = 0, most = 0;
};

/// Called on every rank in every round, before anything of that round is sent; may throw if all ranks do
/// (parallel/agree.h). i: which own window comes now, whose tokens it returns; -1: none does.
using BeginRound = std::function<WindowTokens(std::int64_t i)>;

/// On the last stage the summed negative log likelihood (nats) over this rank's tokens of each of its windows; on
/// others nothing. A window is one forward pass, whatever else is evaluated: batched with others, or on another rank,
/// the matrix products could round differently. Every rank of the mesh calls it.
std::vector<double> window_losses(Model& model, parallel::MeshCommunicators& mesh, WindowCount windows,
                                  const BeginRound& begin_round);

}  // namespace longlora
