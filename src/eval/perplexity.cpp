// A rank's losses are doubles in window order; they travel as bytes, so nothing is rounded on the way.
#include "eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/clock.h"
#include "dist/agree.h"
#include "dist/mesh.h"
#include "model/micro_batch.h"

namespace longlora {
namespace {

/// This rank's windows, one after another.
std::vector<double> own_losses(Model& model, const TokenFiles& files, const WindowList& list, dist::Shard own, const std::function<void(std::int64_t)>& window_done) {
    std::vector<double> losses;
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(model.context_length()));
    for (std::int64_t i = own.begin; i < own.begin + own.count; ++i) {
        const EvaluationWindow& window = list.windows[static_cast<std::size_t>(i)];
        files[static_cast<std::size_t>(window.file)]->read(window.begin, model.context_length(), tokens.data());
        losses.push_back(window_loss(model, tokens, window.first_target));
        if (window_done) window_done(static_cast<std::int64_t>(losses.size()));
    }
    return losses;
}

/// Every window's loss, on every rank. Ranks hold contiguous parts, so rank order is window order.
std::vector<double> gather(const dist::HostGroup& group, const std::vector<double>& own) {
    const std::string bytes(reinterpret_cast<const char*>(own.data()), own.size() * sizeof(double));
    std::vector<double> all;
    for (const std::string& part : group.all_gather(bytes)) {
        const std::size_t before = all.size();
        all.resize(before + part.size() / sizeof(double));
        if (!part.empty()) std::memcpy(all.data() + before, part.data(), part.size());
    }
    return all;
}

/// All ranks have the same losses here, so all throw or none.
void check_finite(const std::vector<double>& losses, const TokenFiles& files, const WindowRules& rules, const WindowList& list) {
    const auto bad = std::find_if(losses.begin(), losses.end(), [](double loss) { return !std::isfinite(loss); });
    if (bad == losses.end()) return;
    const EvaluationWindow& window = list.windows[static_cast<std::size_t>(bad - losses.begin())];
    throw dist::AgreedError(text("the loss over tokens ", window.begin, " to ", window.begin + rules.context - 1, " of ", files[static_cast<std::size_t>(window.file)]->path(), " is ", *bad,
                                 "; the model's weights or its computing type cannot express it, try --dtype float32"), ExitCode::non_finite);
}

}  // namespace

double Perplexity::value() const { return std::exp(nll()); }

std::vector<std::int32_t> window_labels(std::span<const std::int32_t> tokens, std::int64_t first_target) {
    std::vector<std::int32_t> labels = next_token_labels(tokens);
    std::fill(labels.begin(), labels.begin() + (first_target - 1), -1);   // label t is token t + 1
    return labels;
}

double window_loss(Model& model, std::span<const std::int32_t> tokens, std::int64_t first_target) {
    Device& device = model.device();
    const ArenaTensor sum = device.memory().tensor(DType::float64, {}, Use::workspace), host = device.pinned().tensor(DType::float64, {}, Use::workspace);
    host->data<double>()[0] = 0;
    device.copy_to_device(sum, host, Device::compute_stream());
    const std::vector<std::int32_t> labels = window_labels(tokens, first_target);
    const MicroBatch batch = model.micro_batch(tokens, labels);
    model.loss(batch, model.output(batch, {}), sum);
    device.copy_to_host(host, sum, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    return host->data<double>()[0];
}

Perplexity measure_perplexity(const dist::HostGroup& group, Weights& weights, const AttentionPattern& pattern, const TokenFiles& files, const WindowRules& rules,
                              const WindowList& list, const std::function<void(std::int64_t)>& window_done) {
    const double begin = now_seconds();
    const dist::Shard own = dist::deal_of(static_cast<std::int64_t>(list.windows.size()), group.rank(), group.size());
    std::vector<double> losses;
    dist::agree(group, [&] {
        if (own.count == 0) return;
        Model model(weights, pattern, rules.context);   // tables and windows of this context length
        losses = own_losses(model, files, list, own, window_done);
    });
    losses = gather(group, losses);
    check_finite(losses, files, rules, list);
    Perplexity result;
    for (const double loss : losses) result.loss_sum += loss;
    result.windows = static_cast<std::int64_t>(losses.size());
    result.tokens = list.counted_tokens;
    result.seconds = now_seconds() - begin;
    return result;
}

}  // namespace longlora
