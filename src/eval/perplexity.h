// Perplexity of a model over windows of token files, spread over ranks. Which windows is windows.h; tables and files for people are jobs/evaluate.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "dist/host_group.h"
#include "eval/windows.h"
#include "model/model.h"

namespace longlora {

struct Perplexity {
    std::int64_t windows = 0, tokens = 0;   ///< tokens: predictions that count
    double loss_sum = 0;                    ///< nats, over all of them
    double seconds = 0;                     ///< this rank's clock, waiting for the others included
    double nll() const { return loss_sum / static_cast<double>(tokens); }
    double value() const;                   ///< e^nll
};

/// Labels of a window: the next token, or -1 where it comes before first_target or after the window.
std::vector<std::int32_t> window_labels(std::span<const std::int32_t> tokens, std::int64_t first_target);

/// The summed negative log likelihood (nats) of one window's targets. One window is one forward pass, whatever else is evaluated: batched with
/// others, or on another rank, the matrix products could round differently. `model` has the window's context length.
double window_loss(Model& model, std::span<const std::int32_t> tokens, std::int64_t first_target);

/// All windows of `list`, dealt to ranks in order. Every rank returns the same: losses are added window by window, so the bits do not depend on the
/// number of ranks (with equal threads per rank). Collective; what fails on one rank is an Error on all (dist/agree.h), a loss that is not finite too.
/// window_done(n): this rank has finished n of its windows; it may throw to stop.
Perplexity measure_perplexity(const dist::HostGroup& group, Weights& weights, const AttentionPattern& pattern, const TokenFiles& files, const WindowRules& rules,
                              const WindowList& list, const std::function<void(std::int64_t done)>& window_done = {});

}  // namespace longlora
