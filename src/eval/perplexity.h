// Perplexity of a model over windows of token files, on the ranks of a mesh. Which windows is windows.h, their way
// through the mesh window_rounds.h; tables and files for people are jobs/evaluate/command.cpp.
#pragma once

#include <cstdint>
#include <functional>

#include "eval/windows.h"
#include "model/model.h"
#include "parallel/mesh_communicators.h"

namespace longlora {

struct Perplexity {
    std::int64_t windows = 0, tokens = 0;  ///< tokens: predictions that count
    double loss_sum = 0;                   ///< nats, over all of them
    double seconds = 0;                    ///< this rank's clock, waiting for the others included
    double nll() const { return loss_sum / static_cast<double>(tokens); }
    double value() const;  ///< e^nll
};

/// All windows of `list` on the ranks of `mesh` (which are those of `group`, in its order), dealt to data coordinates
/// in order; a window's tokens are dealt to the ranks that share it. Every rank returns the same: losses are added over
/// sequence ranks, then window by window, so the bits do not depend on the number of data ranks (with equal threads per
/// rank). Collective; what fails on one rank between windows is an Error on all (parallel/agree.h), a loss that is not
/// finite too. between(done): called on every rank before each window and after the last, with how many this rank has
/// computed; if it throws on one rank, all stop.
Perplexity measure_perplexity(const parallel::HostGroup& group, parallel::MeshCommunicators& mesh, Weights& weights,
                              const AttentionPattern& pattern, const TokenFiles& files, const WindowRules& rules,
                              const WindowList& list, const std::function<void(std::int64_t done)>& between = {});

}  // namespace longlora
