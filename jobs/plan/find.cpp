// The search asks cheap questions first. A mesh that does not divide the ranks is not planned. A spread that does not
// fit with the least activations kept is not timed. Only the most promising spreads are planned in full.
#include "jobs/plan/find.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace longlora {
namespace {

/// How many pairs of mesh and micro-batch are planned in full for each spread that the caller asks for. Of each pair
/// the fastest and the smallest ZeRO stage are planned: the smallest leaves more memory for activations kept for
/// backward, which may make it the faster one.
constexpr double kRefinedForEach = 1.5;

/// The ranks whose memory and work are extreme: in the first and the last stage, the first, second and last rank of a
/// sequence (they have neighbours on one side or on both).
std::vector<int> extreme_ranks(parallel::MeshShape mesh) {
    std::set<int> ranks;
    for (int p : {0, mesh.pipeline - 1})
        for (int s : {0, std::min(1, mesh.sequence - 1), mesh.sequence - 1})
            ranks.insert(parallel::rank_of(mesh, {p, 0, s}));
    return {ranks.begin(), ranks.end()};
}

struct Candidate {
    MeshChoice choice;
    double seconds = 0;
    std::int64_t arena_bytes = 0;
};

/// Plans a step that keeps the least activations. It plans as many micro-batches as fill the pipeline and scales the
/// time to all of them.
Candidate planned_cheaply(const PlanRequest& request, const PlanGoal& goal, const MeshChoice& choice) {
    PlanRequest few = shortened(spread_request(request, choice), choice.mesh.pipeline);
    few.seconds_of = operation_seconds(goal.machine, request.weights.real, goal.cores_per_rank);
    const double times = static_cast<double>(micro_batches_of(spread_request(request, choice).step, choice.mesh)) /
                         static_cast<double>(micro_batches_of(few.step, few.mesh));
    const ActivationPlan least = keep_least(request.config);
    Candidate candidate{choice, 0, 0};
    RankTime slowest;
    for (const int rank : extreme_ranks(choice.mesh)) {
        few.rank = rank;
        const StepPlan step = plan_step(few, least);
        candidate.arena_bytes = std::max(candidate.arena_bytes, step.arena_bytes);
        if (step.arena_bytes > arena_limit(goal)) return candidate;
        RankTime time = rank_time(goal.machine, few, step);
        time.compute *= times, time.exposed *= times;
        if (time.busy() > slowest.busy()) slowest = time;
    }
    candidate.seconds = slowest.busy() + (choice.mesh.pipeline - 1) * slowest.fill;
    return candidate;
}

/// The fastest and the smallest of the candidates, which have one mesh and micro-batch.
std::vector<Candidate> extremes(std::vector<Candidate> candidates) {
    if (candidates.empty()) return candidates;
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.seconds < b.seconds; });
    const auto smallest =
        std::min_element(candidates.begin(), candidates.end(),
                         [](const Candidate& a, const Candidate& b) { return a.arena_bytes < b.arena_bytes; });
    std::vector<Candidate> out{candidates.front()};
    if (smallest != candidates.begin()) out.push_back(*smallest);
    return out;
}

/// The candidates that fit, in one group per mesh and micro-batch, the group with the fastest candidate first. A larger
/// micro-batch is only tried with the ZeRO stages that were extremes at the micro-batch before it.
std::vector<std::vector<Candidate>> promising(const PlanRequest& request, const PlanGoal& goal, int ranks) {
    std::vector<std::vector<Candidate>> groups;
    std::map<std::pair<int, int>, std::map<std::int64_t, std::vector<MeshChoice>>> by_mesh;
    for (const MeshChoice& choice : mesh_choices(request, ranks))
        by_mesh[{choice.mesh.pipeline, choice.mesh.sequence}][choice.micro_batch].push_back(choice);
    for (const auto& [mesh, by_micro_batch] : by_mesh) {
        std::set<int> zeros{0, 1, 2, 3};
        for (const auto& [micro_batch, choices] : by_micro_batch) {
            std::vector<Candidate> fitting;
            for (const MeshChoice& choice : choices) {
                if (!zeros.count(choice.zero)) continue;
                const Candidate candidate = planned_cheaply(request, goal, choice);
                if (candidate.arena_bytes <= arena_limit(goal)) fitting.push_back(candidate);
            }
            const std::vector<Candidate> chosen = extremes(std::move(fitting));
            if (chosen.empty()) break;  // larger micro-batches take more memory
            zeros.clear();
            for (const Candidate& candidate : chosen) zeros.insert(candidate.choice.zero);
            groups.push_back(chosen);
        }
    }
    std::stable_sort(groups.begin(), groups.end(),
                     [](const auto& a, const auto& b) { return a.front().seconds < b.front().seconds; });
    return groups;
}

/// Whether the extreme ranks fit when they keep the least activations.
bool fits(const PlanRequest& request, const PlanGoal& goal) {
    PlanRequest few = shortened(request, request.mesh.pipeline + 2);  // as many as plan_many plans
    const ActivationPlan least = keep_least(request.config);
    const auto ranks = extreme_ranks(request.mesh);
    return std::all_of(ranks.begin(), ranks.end(), [&](int rank) {
        few.rank = rank;
        return plan_step(few, least).arena_bytes <= arena_limit(goal);
    });
}

/// The fastest of the candidates when planned in full; nothing if none fits.
std::optional<Found> best_of(const PlanRequest& request, const PlanGoal& goal,
                             const std::vector<Candidate>& candidates) {
    std::optional<Found> best;
    for (const Candidate& candidate : candidates) {
        const PlanRequest here = spread_request(request, candidate.choice);
        MeshPlan plan = plan_mesh(here, goal, representative_ranks(here));
        if (plan.fits && (!best || plan.step_seconds < best->plan.step_seconds))
            best = Found{candidate.choice, std::move(plan)};
    }
    return best;
}

}  // namespace

PlanRequest spread_request(const PlanRequest& request, const MeshChoice& choice) {
    PlanRequest out = request;
    out.mesh = choice.mesh;
    out.weights.zero = choice.zero;
    out.step.micro_batch = choice.micro_batch;
    out.rank = 0;
    return out;
}

std::vector<MeshChoice> mesh_choices(const PlanRequest& request, int ranks) {
    std::vector<MeshChoice> choices;
    for (int pipeline = 1; pipeline <= std::min<std::int64_t>(ranks, request.config.num_layers); ++pipeline)
        for (int sequence = 1; sequence <= std::min<std::int64_t>(ranks / pipeline, request.context); ++sequence) {
            if (ranks % (pipeline * sequence) != 0) continue;
            const parallel::MeshShape mesh{pipeline, ranks / (pipeline * sequence), sequence};
            if (mesh.data > request.step.global_batch) continue;
            const std::int64_t most = (request.step.global_batch + mesh.data - 1) / mesh.data;
            for (int zero = 0; zero <= (mesh.data * sequence == 1 ? 0 : 3); ++zero)
                for (std::int64_t micro_batch = 1; micro_batch <= std::min<std::int64_t>(8, most); micro_batch *= 2)
                    choices.push_back({mesh, zero, micro_batch});
        }
    return choices;
}

std::vector<Found> find_meshes(const PlanRequest& request, const PlanGoal& goal, int ranks, std::size_t count) {
    std::vector<Found> found;
    std::size_t planned = 0;
    for (const auto& candidates : promising(request, goal, ranks)) {
        if (static_cast<double>(planned++) >= kRefinedForEach * static_cast<double>(count)) break;
        if (auto best = best_of(request, goal, candidates)) found.push_back(std::move(*best));
    }
    const auto memory = [](const Found& f) { return f.plan.rank_with_most_memory().device.used; };
    std::stable_sort(found.begin(), found.end(), [&](const Found& a, const Found& b) {
        return std::pair(a.plan.step_seconds, memory(a)) < std::pair(b.plan.step_seconds, memory(b));
    });
    if (found.size() > count) found.resize(count);
    return found;
}

LongestContext longest_context(const RequestAt& request_at, const std::vector<MeshChoice>& choices,
                               const PlanGoal& goal, std::int64_t unit) {
    constexpr std::int64_t kMostTokens = std::int64_t{1} << 30;  // positions are int32
    LongestContext best;
    for (const MeshChoice& choice : choices) {
        const auto fits_units = [&](std::int64_t units) {
            if (units * unit > kMostTokens || units * unit < choice.mesh.sequence) return false;
            return fits(spread_request(request_at(units * unit), choice), goal);
        };
        std::int64_t good = best.context / unit;
        if (!fits_units(good + 1)) continue;
        std::int64_t step = 1;
        while (fits_units(good + 2 * step)) step *= 2;  // good + step fits
        std::int64_t too_long = good + 2 * step;
        good += step;
        while (too_long - good > 1) {
            const std::int64_t middle = (good + too_long) / 2;
            (fits_units(middle) ? good : too_long) = middle;
        }
        best = {good * unit, choice, {}};
    }
    PlanGoal frugal = goal;
    frugal.recompute = "all";
    for (; best.context > 0; best.context -= unit) {
        const PlanRequest there = spread_request(request_at(best.context), best.choice);
        best.plan = plan_mesh(there, frugal, representative_ranks(there));
        if (best.plan.fits) break;
    }
    return best;
}

}  // namespace longlora
