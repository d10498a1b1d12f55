// A rank keeps its losses as doubles in the order of windows. They are gathered once, at the end, as bytes, so nothing
// is rounded on the way.
#include "eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "core/clock.h"
#include "eval/window_rounds.h"
#include "parallel/agree.h"

namespace longlora {
namespace {

WindowTokens read_window(const TokenFiles& files, const EvaluationWindow& window, std::int64_t context,
                         parallel::Shard own_tokens) {
    std::vector<std::int32_t> tokens(context);
    files[window.file]->read(window.begin, context, tokens.data());
    return window_tokens(tokens, window.first_target, own_tokens);
}

std::vector<double> numbers_in(const std::string& bytes) {
    std::vector<double> out(bytes.size() / sizeof(double));
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
}

/// The loss of every window, on every rank. The sequence ranks of the last stage have its parts, which are added in the
/// order of ranks.
std::vector<double> gather(const parallel::HostGroup& group, parallel::MeshShape mesh, const std::vector<double>& own) {
    const auto parts =
        group.all_gather(std::string(reinterpret_cast<const char*>(own.data()), own.size() * sizeof(double)));
    std::vector<double> all;
    for (int data = 0; data < mesh.data; ++data) {
        std::vector<double> sums;
        for (int sequence = 0; sequence < mesh.sequence; ++sequence) {
            const auto losses = numbers_in(parts[parallel::rank_of(mesh, {mesh.pipeline - 1, data, sequence})]);
            if (sequence == 0) sums = losses;
            else std::transform(sums.begin(), sums.end(), losses.begin(), sums.begin(), std::plus<>());
        }
        all.insert(all.end(), sums.begin(), sums.end());
    }
    return all;
}

/// All ranks pass the same losses, so either all throw or none.
void check_finite(const std::vector<double>& losses, const TokenFiles& files, const WindowRules& rules,
                  const WindowList& list) {
    const auto bad = std::find_if(losses.begin(), losses.end(), [](double loss) { return !std::isfinite(loss); });
    if (bad == losses.end()) return;
    const EvaluationWindow& window = list.windows[bad - losses.begin()];
    throw parallel::AgreedError(
        text("the loss over tokens ", window.begin, " to ", window.begin + rules.context - 1, " of ",
             files[window.file]->path(), " is ", *bad,
             "; the model's weights or its computing type cannot express it, try --dtype float32"),
        ExitCode::non_finite);
}

}  // namespace

double Perplexity::value() const { return std::exp(nll()); }

Perplexity measure_perplexity(const parallel::HostGroup& group, parallel::MeshCommunicators& mesh, Weights& weights,
                              const AttentionPattern& pattern, const TokenFiles& files, const WindowRules& rules,
                              const WindowList& list, const std::function<void(std::int64_t)>& between) {
    const double begin = now_seconds();
    ensure(group.size() == mesh.shape.num_ranks() && parallel::coordinate_of(mesh.shape, group.rank()) == mesh.at,
           "the mesh is that of the group");
    const std::int64_t num_windows = list.windows.size();
    const parallel::Shard own = parallel::even_share_of(num_windows, mesh.at.data, mesh.shape.data);
    std::unique_ptr<Model> model;
    parallel::agree(group, [&] {
        model = std::make_unique<Model>(weights, pattern, rules.context, mesh.sequence.get());
    });  // tables and windows of this context length
    std::int64_t done = 0;
    const auto begin_round =
        [&](std::int64_t i) {  // all ranks agree before anything is sent, so none waits for a rank that failed
            WindowTokens tokens;
            parallel::agree(group, [&] {
                if (between) between(done);
                if (i >= 0)
                    tokens = read_window(files, list.windows[own.begin + i], rules.context, model->own_tokens());
            });
            if (i >= 0) ++done;
            return tokens;
        };
    std::vector<double> losses =
        window_losses(*model, mesh, {own.count, (num_windows + mesh.shape.data - 1) / mesh.shape.data}, begin_round);
    begin_round(-1);  // reports the last windows
    losses = gather(group, mesh.shape, losses);
    check_finite(losses, files, rules, list);
    Perplexity result;
    for (const double loss : losses) result.loss_sum += loss;
    result.windows = losses.size();
    result.tokens = list.counted_tokens;
    result.seconds = now_seconds() - begin;
    return result;
}

}  // namespace longlora
