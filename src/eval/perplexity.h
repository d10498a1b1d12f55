// Perplexity of a model over windows of token files, on the ranks of a mesh. Not here: which windows there are
// (windows.h), their way through the mesh (window_rounds.h), tables and files for people (jobs/evaluate/report.h).
#pragma once

#include <cstdint>
#include <functional>

#include "eval/perplexity_windows.h"
#include "model/model.h"
#include "parallel/mesh_communicators.h"

namespace longlora {

struct Perplexity {
    std::int64_t windows = 0, tokens = 0;  ///< tokens: the predictions that count
    double loss_sum = 0;                   ///< over these tokens, in nats
    double seconds = 0;                    ///< by this rank's clock, with the time it waited for others
    double nll() const { return loss_sum / static_cast<double>(tokens); }
    double value() const;  ///< e^nll
};

/// Measures all windows of `list` on the ranks of `mesh`, which are the ranks of `group` in the same order. The windows
/// are distributed to data coordinates in order, the tokens of a window to the ranks that share it. All ranks return
/// the same: losses are added over sequence ranks, then window by window, so with equal threads per rank the bits do
/// not depend on the number of data ranks. Collective; a failure of one rank between windows is an Error on all ranks
/// (src/parallel/agree.h), and so is a loss that is not finite.
/// between(done) is called on every rank before each window and after the last one; done: how many windows this rank
/// has computed. If it throws on one rank, all ranks stop.
Perplexity measure_perplexity(const parallel::HostGroup& group, parallel::MeshCommunicators& mesh, Weights& weights,
                              const AttentionPattern& pattern, const TokenFiles& files, const WindowRules& rules,
                              const WindowList& list, const std::function<void(std::int64_t done)>& between = {});

}  // namespace longlora
