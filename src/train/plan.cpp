// The planner has no formulas: it runs the real code on a plan device with plan communicators.
#include "train/plan.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>

#include "core/clock.h"
#include "model/micro_batch.h"
#include "train/distinct_ranks.h"

namespace longlora {
namespace {

using Rules = std::vector<parallel::ExchangeRules>;

Rules rules_of(const PlanRequest& request) {
    return exchange_rules_of(request.pattern, request.context, request.mesh.sequence, request.config);
}

bool KeptActivations::*const kKeepingOrder[] = {&KeptActivations::halo, &KeptActivations::attention,
                                                &KeptActivations::mid, &KeptActivations::qkv,
                                                &KeptActivations::gate_up};

Batch sequences_of(const PlanRequest& request, parallel::Shard own_tokens) {
    const auto share = parallel::even_share_of(
        request.step.global_batch, parallel::coordinate_of(request.mesh, request.rank).data, request.mesh.data);
    Batch sequences;
    sequences.tokens.resize(share.count * own_tokens.count);
    sequences.labels = sequences.tokens;
    sequences.document_starts.resize(share.count, {0});
    sequences.num_predictions = request.step.global_batch * num_predictions(request.context);
    return sequences;
}

/// Keeps the first `count` (item, layer of the stage) pairs of the order of preference.
ActivationPlan keep_first(const ModelConfig& config, const Stage& stage, std::int64_t count) {
    ActivationPlan activations(config.num_layers, KeptActivations{.halo = false});
    for (auto item : kKeepingOrder)
        for (std::int64_t layer = stage.first_layer; layer < stage.first_layer + stage.num_layers && count > 0;
             ++layer, --count)
            activations[layer].*item = true;
    return activations;
}

/// The steps that must fit: those of the ranks that have the stage of request.rank and the first data coordinate, which
/// has the largest shards. These ranks differ in their tokens and halos; `sequence_ranks` are theirs. First come steps
/// with so few micro-batches that planning is quick: as many as can be alive, one that follows them, and one more,
/// since the last micro-batch of a step leaves other gradients behind. Then come steps with all micro-batches, also
/// with those of a coordinate that has one sequence less: blocks of several micro-batches lie side by side in the arena
/// in an order that keeps changing, and so do the gaps between them.
std::vector<PlanRequest> steps_that_must_fit(const PlanRequest& request, const std::vector<int>& sequence_ranks) {
    const std::int64_t data = request.mesh.data, most = (request.step.global_batch + data - 1) / data;
    std::vector<std::int64_t> batches{data * std::min(most, request.step.micro_batch * (request.mesh.pipeline + 2))};
    for (const std::int64_t batch : {data * most, request.step.global_batch})
        if (batch != batches.back()) batches.push_back(batch);
    std::vector<PlanRequest> all;
    auto at = parallel::coordinate_of(request.mesh, request.rank);
    at.data = 0;
    for (const std::int64_t batch : batches)
        for (const int sequence : sequence_ranks) {
            at.sequence = sequence;
            all.push_back(request);
            all.back().rank = parallel::rank_of(request.mesh, at);
            all.back().step.global_batch = batch;
        }
    return all;
}

/// The largest number of items, at most `most`, for which fits(items) is true; -1 if fits(0) is false.
template <class Fits> std::int64_t most_that_fit(std::int64_t most, Fits&& fits) {
    if (fits(most)) return most;
    std::int64_t good = -1, too_many = most;
    while (too_many - good > 1) {
        const std::int64_t middle = (good + too_many) / 2;
        (fits(middle) ? good : too_many) = middle;
    }
    return good;
}

/// plan_step; rules: rules_of(request).
StepPlan plan_with(const Rules& rules, const PlanRequest& request, const ActivationPlan& activations) {
    const auto device = make_plan_device({.own_bytes = request.own_bytes});
    auto mesh = parallel::make_plan_mesh(*device, request.mesh, request.rank);
    WeightsOptions weights_options = request.weights;
    weights_options.data = mesh.data.get();
    Weights weights(*device, request.config, request.trainables, weights_options, stage_of(request, request.rank));
    Model model(weights, request.pattern, request.context, mesh.sequence.get(), request.offload_activations, rules);
    const StepScalars scalars(*device);
    device->recorder().clear();
    device->recorder().whole = request.whole;
    device->set_progress(request.progress);
    device->recorder().seconds_of = request.seconds_of;
    const auto before = mesh.traffic_by_unit();
    train_step(model, mesh, scalars, sequences_of(request, model.own_tokens()), request.step, activations, 1, 1);
    StepPlan plan{device->memory().high_water_bytes(),
                  device->pinned().high_water_bytes(),
                  device->memory().at_peak(),
                  device->recorder(),
                  mesh.traffic_by_unit(),
                  {},
                  device->memory().num_made()};
    for (auto& [axis, units] : plan.traffic_by_unit) {
        parallel::Traffic& sum = plan.traffic[axis];
        for (auto& [unit, sent] : units) {
            if (before.at(axis).count(unit)) sent -= before.at(axis).at(unit);
            sum += sent;
        }
    }
    return plan;
}

/// What a stage may keep, as a number of items (keep_first), and the steps that must fit.
struct Search {
    const PlanRequest& request;
    Rules rules;
    Stage stage;
    std::int64_t limit = 0, least_items = 0, most_items = 0;
    std::vector<PlanRequest> steps{};

    Search(const PlanRequest& r, const std::string& mode, std::int64_t memory_bytes)
        : request(r),
          rules(rules_of(r)),
          stage(stage_of(r, r.rank)) {
        require(mode == "all" || mode == "none" || mode == "auto", "--recompute ", mode,
                " is not known; take auto, all or none");
        // Documents make pieces and halos smaller than planned, so that they get other addresses; leave room for gaps.
        limit = r.step.document_mask && r.mesh.sequence > 1 ? memory_bytes - memory_bytes / 25 : memory_bytes;
        const std::int64_t num_items = static_cast<std::int64_t>(std::size(kKeepingOrder)) * stage.num_layers;
        least_items = mode == "none" ? num_items : 0;
        // Halos are kept with "all" too: without them a layer receives again, which is not recomputation.
        most_items = mode == "all" ? stage.num_layers : num_items;
    }
    Search(const Search&) = delete;

    std::int64_t bytes_of(const PlanRequest& step, std::int64_t items) const {
        return plan_with(rules, step, keep_first(request.config, stage, items)).arena_bytes;
    }
    /// The most items, at most `items`, with which each step fits; less than least_items if there are none.
    std::int64_t narrowed(std::int64_t items) const {
        for (const PlanRequest& step : steps) {
            items = most_that_fit(items, [&](std::int64_t some) { return bytes_of(step, some) <= limit; });
            if (items < least_items) break;
        }
        return items;
    }
    /// What the steps need in any case.
    std::int64_t least_bytes() const {
        std::int64_t least = 0;
        for (const PlanRequest& step : steps) least = std::max(least, bytes_of(step, least_items));
        return least;
    }
    [[noreturn]] void refuse(std::int64_t least) const {
        fail(text("one step at context ", request.context, least_items ? " with --recompute none" : "",
                  " needs at least ", bytes_text(least), " of device memory and ", bytes_text(limit),
                  " are allowed; take a shorter --context, a smaller --micro-batch",
                  least_items ? ", --recompute auto" : "",
                  ", more ranks with --sequence, --pipeline or --zero 3, or more --memory"),
             ExitCode::does_not_fit);
    }
};

/// The least of `values`, one for each rank of the mesh, of each stage.
std::vector<std::int64_t> least_by_stage(parallel::MeshShape mesh, const std::vector<std::int64_t>& values) {
    std::vector<std::int64_t> least(static_cast<std::size_t>(mesh.pipeline), std::numeric_limits<std::int64_t>::max());
    for (int rank = 0; rank < mesh.num_ranks(); ++rank) {
        std::int64_t& of_stage = least[static_cast<std::size_t>(parallel::coordinate_of(mesh, rank).pipeline)];
        of_stage = std::min(of_stage, values[static_cast<std::size_t>(rank)]);
    }
    return least;
}

}  // namespace

Stage stage_of(const PlanRequest& request, int rank) {
    const auto stages = stages_of(request.config, request.mesh.pipeline, request.pattern, request.context);
    return stages[parallel::coordinate_of(request.mesh, rank).pipeline];
}

StepPlan plan_step(const PlanRequest& request, const ActivationPlan& activations) {
    return plan_with(rules_of(request), request, activations);
}

ActivationPlan choose_activations(const PlanRequest& request, const std::string& mode, std::int64_t memory_bytes) {
    Search search(request, mode, memory_bytes);
    std::vector<int> ranks(static_cast<std::size_t>(request.mesh.sequence));
    std::iota(ranks.begin(), ranks.end(), 0);
    if (!request.whole) ranks = distinct_sequence_ranks(request, search.rules);
    search.steps = steps_that_must_fit(request, ranks);
    std::int64_t items = search.most_items, before = -1;
    while (before != items) {  // check all again after a change: with other gaps, keeping less may need more
        before = items;
        items = search.narrowed(items);
        if (items < search.least_items) search.refuse(search.least_bytes());
    }
    return keep_first(request.config, search.stage, items);
}

ActivationPlan choose_together(const PlanRequest& request, const std::string& mode, std::int64_t memory_bytes,
                               const GatherNumbers& gather) {
    const parallel::MeshCoordinate at = parallel::coordinate_of(request.mesh, request.rank);
    std::optional<Search> search;
    gather([&] {
        search.emplace(request, mode, memory_bytes);
        search->steps = steps_that_must_fit(request, {at.sequence});
        return 0;
    });
    const auto gather_least = [&](const std::function<std::int64_t()>& work) {
        return least_by_stage(request.mesh, gather(work));
    };
    const auto stage = static_cast<std::size_t>(at.pipeline);
    // By stage, the same on all ranks, so all ranks go on until no stage changes.
    std::vector<std::int64_t> items = gather_least([&] { return search->most_items; }), before;
    while (items != before) {
        before = items;
        items = gather_least([&] { return search->narrowed(items[stage]); });
        const bool refused = items[stage] < search->least_items;
        const auto any_refused = gather_least([&] { return refused ? -1 : 0; });
        if (*std::min_element(any_refused.begin(), any_refused.end()) == 0) continue;
        const auto most_bytes = gather_least([&] { return -search->least_bytes(); });
        gather([&] {
            if (refused) search->refuse(-most_bytes[stage]);
            return 0;
        });
    }
    return keep_first(request.config, search->stage, items[stage]);
}

std::string to_text(const ActivationPlan& activations, const Stage& stage) {
    const char* names[] = {"halo", "attention", "mid", "q/k/v", "gate/up"};
    std::string out;
    for (std::size_t i = 0; i < std::size(kKeepingOrder); ++i) {
        std::int64_t layers = 0;
        for (std::int64_t layer = stage.first_layer; layer < stage.first_layer + stage.num_layers; ++layer)
            layers += activations[layer].*kKeepingOrder[i];
        const bool usual = kKeepingOrder[i] == &KeptActivations::halo && layers == stage.num_layers;
        if (!usual) out += text(out.empty() ? "" : ", ", names[i], " ", layers);
    }
    return text(out, " of ", stage.num_layers, " layers");
}

}  // namespace longlora
