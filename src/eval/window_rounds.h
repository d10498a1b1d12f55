// Windows through the stages of a mesh, round by round. A stage computes window i in round i + stage and passes its
// output on at the end of the round. So all stages work at the same time, each on a window of its own, and between two
// rounds no message is under way. Which windows there are, and what their losses mean: perplexity.h.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/model.h"
#include "parallel/mesh_communicators.h"

namespace longlora {

/// A rank's tokens of a window and their labels. A label is the next token of the whole window, or -1 if that token
/// lies before first_target or behind the window.
struct WindowTokens {
    std::vector<std::int32_t> ids, labels;
};
WindowTokens window_tokens(std::span<const std::int32_t> window, std::int64_t first_target, parallel::Shard own_tokens);

/// How many windows this rank's data coordinate has, and the most that any coordinate has: all ranks take part in as
/// many rounds.
struct WindowCount {
    std::int64_t own = 0, most = 0;
};

/// Called on every rank in every round, before anything of that round is sent. i: the own window of this round, whose
/// tokens it returns; -1: there is none. It may throw if it throws on all ranks (src/parallel/agree.h).
using BeginRound = std::function<WindowTokens(std::int64_t i)>;

/// On the last stage, for each of this rank's windows, the sum of the negative log likelihoods (nats) over this rank's
/// tokens; on other stages nothing. Each window is a forward pass of its own: matrix products could round differently
/// in a batch, which would depend on what else is evaluated and on which rank. Every rank of the mesh calls it.
std::vector<double> window_losses(Model& model, parallel::MeshCommunicators& mesh, WindowCount windows,
                                  const BeginRound& begin_round);

}  // namespace longlora
