// The kind of a rank is a list of numbers; ranks with the same list are alike.
#include "train/distinct_ranks.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "model/micro_batch.h"

namespace longlora {
namespace {

using Numbers = std::vector<std::int64_t>;

void append(Numbers& to, const Numbers& from) {
    to.push_back(static_cast<std::int64_t>(from.size()));
    to.insert(to.end(), from.begin(), from.end());
}

/// Numbers the effects of rounds; equal effects have one number.
class EffectNumbers {
public:
    std::int64_t of(const parallel::RoundEffect& effect) {
        return numbers_.emplace(effect, static_cast<std::int64_t>(numbers_.size())).first->second;
    }

private:
    std::map<parallel::RoundEffect, std::int64_t> numbers_;
};

/// A round leaves its traces in the gaps of the arena for some rounds. Runs of 10 were enough wherever they were tried;
/// runs of 4, 6 and 8 were not.
constexpr std::size_t kRun = 12;

/// All runs of kRun rounds, each once; rounds before the first one and after the last one are -1.
Numbers runs_of(const Numbers& rounds) {
    std::set<std::array<std::int64_t, kRun>> runs;
    std::array<std::int64_t, kRun> run;
    run.fill(-1);
    const auto take = [&](std::int64_t next) {
        std::rotate(run.begin(), run.begin() + 1, run.end());
        run.back() = next;
        runs.insert(run);
    };
    for (const std::int64_t round : rounds) take(round);
    for (std::size_t i = 1; i < kRun; ++i) take(-1);
    Numbers out;
    for (const auto& one : runs) out.insert(out.end(), one.begin(), one.end());
    return out;
}

/// The attention of one rank with one kind of windows.
struct Attention {
    const Windows& windows;
    const parallel::ExchangeRules& rules;
};

Numbers kind_of_attention(const Attention& attention, int rank, EffectNumbers& effects) {
    const auto& [windows, rules] = attention;
    Numbers rounds, kind;
    for (const auto& round : parallel::kv_transfers(rules, windows, rank))
        rounds.push_back(effects.of(parallel::effect_of(round, rules, windows, rank)));
    append(kind, rules.stays_until_backward ? rounds : runs_of(rounds));
    const parallel::Shard own = parallel::tokens_of(windows.num_tokens(), rank, rules.num_ranks);
    for (const auto& one : parallel::kv_head_classes(windows, rules.num_heads, rules.num_kv_heads))
        kind.push_back(parallel::num_queries_that_see(windows, one, own, own.begin));
    return kind;
}

/// The elements of each unit that the rank with this sequence coordinate keeps of what all ranks of the stage share.
Numbers kind_of_shards(const ParameterList& list, parallel::MeshShape mesh, int sequence) {
    Numbers kind;
    for (const UnitLayout& unit : list.units)
        for (const std::int64_t count : {unit.trainable_count, unit.frozen_count})
            kind.push_back(parallel::shard_of(count, sequence, mesh.data * mesh.sequence).count);
    return kind;
}

}  // namespace

std::vector<int> distinct_sequence_ranks(const PlanRequest& request,
                                         const std::vector<parallel::ExchangeRules>& rules) {
    const parallel::MeshShape mesh = request.mesh;
    if (mesh.sequence == 1) return {0};
    const ParameterList list = list_parameters(request.config, request.trainables, stage_of(request, request.rank));
    std::vector<Windows> windows;
    for (int variant = 0; variant < num_window_variants(request.pattern); ++variant)
        windows.push_back(on_host(make_windows(request.pattern, variant, request.context, request.config.num_heads)));
    EffectNumbers effects;
    std::set<Numbers> kinds;
    std::vector<int> distinct;
    for (int sequence = 0; sequence < mesh.sequence; ++sequence) {
        if (request.progress) request.progress();
        Numbers kind = kind_of_shards(list, mesh, sequence);
        kind.push_back(parallel::tokens_of(request.context, sequence, mesh.sequence).count);
        for (std::size_t variant = 0; variant < windows.size(); ++variant)
            append(kind, kind_of_attention({windows[variant], rules[variant]}, sequence, effects));
        if (kinds.insert(std::move(kind)).second) distinct.push_back(sequence);
    }
    return distinct;
}

}  // namespace longlora
