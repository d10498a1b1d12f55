// The planner has no formulas: it runs the real code on a plan device with plan communicators.
#include "train/plan.h"

#include "core/clock.h"

namespace longlora {
namespace {

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
/// has the largest shards. These ranks differ in their tokens and halos. First come steps with so few micro-batches
/// that planning is quick: as many as can be alive, one that follows them, and one more, since the last micro-batch of
/// a step leaves other gradients behind. Then come steps with all micro-batches, also with those of a coordinate that
/// has one sequence less: blocks of several micro-batches lie side by side in the arena in an order that keeps
/// changing, and so do the gaps between them.
std::vector<PlanRequest> steps_that_must_fit(const PlanRequest& request) {
    const std::int64_t data = request.mesh.data, most = (request.step.global_batch + data - 1) / data;
    std::vector<std::int64_t> batches{data * std::min(most, request.step.micro_batch * (request.mesh.pipeline + 2))};
    for (const std::int64_t batch : {data * most, request.step.global_batch})
        if (batch != batches.back()) batches.push_back(batch);
    std::vector<PlanRequest> all;
    auto at = parallel::coordinate_of(request.mesh, request.rank);
    at.data = 0;
    for (const std::int64_t batch : batches)
        for (at.sequence = 0; at.sequence < request.mesh.sequence; ++at.sequence) {
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

}  // namespace

Stage stage_of(const PlanRequest& request, int rank) {
    const auto stages = stages_of(request.config, request.mesh.pipeline, request.pattern, request.context);
    return stages[parallel::coordinate_of(request.mesh, rank).pipeline];
}

StepPlan plan_step(const PlanRequest& request, const ActivationPlan& activations) {
    const auto device = make_plan_device({.own_bytes = request.own_bytes});
    auto mesh = parallel::make_plan_mesh(*device, request.mesh, request.rank);
    WeightsOptions weights_options = request.weights;
    weights_options.data = mesh.data.get();
    Weights weights(*device, request.config, request.trainables, weights_options, stage_of(request, request.rank));
    Model model(weights, request.pattern, request.context, mesh.sequence.get(), request.offload_activations);
    const StepScalars scalars(*device);
    device->recorder().clear();
    device->recorder().seconds_of = request.seconds_of;
    const auto before = mesh.traffic_by_unit();
    train_step(model, mesh, scalars, sequences_of(request, model.own_tokens()), request.step, activations, 1, 1);
    StepPlan plan{device->memory().high_water_bytes(),
                  device->pinned().high_water_bytes(),
                  device->memory().at_peak(),
                  device->recorder(),
                  mesh.traffic_by_unit(),
                  {}};
    for (auto& [axis, units] : plan.traffic_by_unit) {
        parallel::Traffic& sum = plan.traffic[axis];
        for (auto& [unit, sent] : units) {
            if (before.at(axis).count(unit)) sent -= before.at(axis).at(unit);
            sum += sent;
        }
    }
    return plan;
}

ActivationPlan choose_activations(const PlanRequest& request, const std::string& mode, std::int64_t memory_bytes) {
    require(mode == "all" || mode == "none" || mode == "auto", "--recompute ", mode,
            " is not known; take auto, all or none");
    const Stage stage = stage_of(request, request.rank);
    const std::int64_t num_items = static_cast<std::int64_t>(std::size(kKeepingOrder)) * stage.num_layers;
    const auto bytes_of = [&](const PlanRequest& one, std::int64_t items) {
        return plan_step(one, keep_first(request.config, stage, items)).arena_bytes;
    };
    const std::int64_t least_items = mode == "none" ? num_items : 0;
    // Documents make pieces and halos smaller than planned, so that they get other addresses; leave room for gaps.
    const std::int64_t limit =
        request.step.document_mask && request.mesh.sequence > 1 ? memory_bytes - memory_bytes / 25 : memory_bytes;
    const auto steps = steps_that_must_fit(request);
    // Halos are kept with "all" too: without them a layer receives again, which is not recomputation.
    std::int64_t items = mode == "all" ? stage.num_layers : num_items, before = -1;
    while (before != items) {  // check all again after a change: with other gaps, keeping less may need more
        before = items;
        for (const auto& one : steps) {
            items = most_that_fit(items, [&](std::int64_t some) { return bytes_of(one, some) <= limit; });
            if (items >= least_items) continue;
            std::int64_t least = 0;
            for (const auto& each : steps) least = std::max(least, bytes_of(each, least_items));
            fail(text("one step at context ", request.context, least_items ? " with --recompute none" : "",
                      " needs at least ", bytes_text(least), " of device memory and ", bytes_text(limit),
                      " are allowed; take a shorter --context, a smaller --micro-batch",
                      least_items ? ", --recompute auto" : "",
                      ", more ranks with --sequence, --pipeline or --zero 3, or more --memory"),
                 ExitCode::does_not_fit);
        }
    }
    return keep_first(request.config, stage, items);
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
