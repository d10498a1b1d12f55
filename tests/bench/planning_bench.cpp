// planning_bench CONFIG.json [attention [tokens [ranks [GiB]]]]: how long planning takes when a job of many sequence
// ranks starts: the exchange rules, the transfers of all ranks, the kinds of ranks, and what single ranks do in `train`
// (choose_together) with this much device memory. This is a benchmark, not a test: it checks nothing.
#include <cstdio>
#include <cstdlib>

#include "core/clock.h"
#include "model/micro_batch.h"
#include "train/distinct_ranks.h"
#include "train/plan.h"

using namespace longlora;

namespace {

template <class Work> auto timed(const char* what, Work&& work) {
    const double begin = now_seconds();
    auto result = work();
    std::printf("%-28s %7.3f s\n", what, now_seconds() - begin);
    return result;
}

/// ZeRO 3, 64 sequences in a step, groups of a quarter of the context, bfloat16.
PlanRequest request_of(const char* config, AttentionKind attention, std::int64_t tokens, int ranks) {
    PlanRequest request;
    request.config = read_config(config);
    request.pattern = {attention, tokens / 4};
    request.context = tokens;
    request.mesh = {1, 1, ranks};
    request.weights.real = request.weights.frozen = DType::bfloat16;
    request.weights.zero = 3;
    request.step.global_batch = 64;
    request.step.micro_batch = 1;
    return request;
}

std::size_t num_transfers(const PlanRequest& request, const parallel::ExchangeRules& rules) {
    const Windows windows = on_host(make_windows(request.pattern, 0, request.context, request.config.num_heads));
    std::size_t count = 0;
    for (int rank = 0; rank < request.mesh.sequence; ++rank)
        for (const auto& round : parallel::kv_transfers(rules, windows, rank)) count += round.size();
    return count;
}

}  // namespace

int main(int argc, char** argv) {
    const auto argument = [&](int i, const char* standard) { return argc > i ? argv[i] : standard; };
    const char* config = argument(1, "jobs/presets/llama2-7b.json");
    const int ranks = std::atoi(argument(4, "512"));
    const std::int64_t memory_bytes = std::int64_t{std::atoi(argument(5, "60"))} << 30;
    PlanRequest request =
        request_of(config, attention_kind(argument(2, "dense")), std::atoll(argument(3, "1048576")), ranks);

    const auto rules = timed(
        "exchange rules", [&] { return exchange_rules_of(request.pattern, request.context, ranks, request.config); });
    const std::size_t transfers = timed("transfers of all ranks", [&] { return num_transfers(request, rules[0]); });
    const auto kinds = timed("kinds of ranks", [&] { return distinct_sequence_ranks(request, rules); });
    for (const int rank : {0, ranks / 2, ranks - 1}) {
        request.rank = rank;
        timed(text("rank ", rank, " in train").c_str(), [&] {
            return choose_together(request, "auto", memory_bytes, [&](const std::function<std::int64_t()>& work) {
                return std::vector<std::int64_t>(static_cast<std::size_t>(ranks), work());
            });
        });
    }
    std::printf("%zu transfers, %zu kinds of ranks\n", transfers, kinds.size());
}
