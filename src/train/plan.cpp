// The planner has no formulas: it runs the real code on a plan device with plan communicators.
#include "train/plan.h"

#include "core/clock.h"

namespace longlora {
namespace {

bool LayerKeep::* const kKeepOrder[] = {&LayerKeep::attention, &LayerKeep::mid, &LayerKeep::qkv, &LayerKeep::gate_up};

LocalSequences sequences_of(const PlanRequest& request) {
    const auto share = dist::deal_of(request.step.global_batch, request.rank, request.ranks);
    LocalSequences local;
    local.tokens.resize(static_cast<std::size_t>(share.count * request.context));
    local.document_starts.resize(static_cast<std::size_t>(share.count), {0});
    return local;
}

/// Keeps the first `count` (item, layer) pairs of the order of preference.
KeepPlan keep_first(const ModelConfig& config, std::int64_t count) {
    KeepPlan keep = keep_nothing(config);
    for (auto item : kKeepOrder)
        for (auto& layer : keep)
            if (count-- > 0) layer.*item = true;
    return keep;
}

}  // namespace

StepPlan plan_step(const PlanRequest& request, const KeepPlan& keep) {
    const auto device = make_plan_device();
    const auto data = dist::make_plan_communicator(*device, request.rank, request.ranks);
    Weights weights(*device, request.config, request.trainables, request.weights);
    Model model(weights, request.pattern, request.context);
    const StepScalars scalars(*device);
    device->recorder().clear();
    const dist::Traffic before = data->traffic();
    train_step(model, *data, scalars, sequences_of(request), request.step, keep, 1, 1);
    return {device->memory().high_water_bytes(), device->pinned().high_water_bytes(), device->memory().at_peak(), device->recorder().flops(),
            {data->traffic().bytes - before.bytes, data->traffic().messages - before.messages}};
}

KeepPlan choose_keep(const PlanRequest& request, const std::string& mode, std::int64_t memory_bytes) {
    require(mode == "all" || mode == "none" || mode == "auto", "--recompute ", mode, " is not known; take auto, all or none");
    // Every micro-batch is alike, so one of them tells the peak.
    PlanRequest short_request = request;
    short_request.step.global_batch = std::min(request.step.global_batch, request.step.micro_batch * request.ranks);
    const auto bytes_with = [&](const KeepPlan& keep) { return plan_step(short_request, keep).arena_bytes; };
    const KeepPlan nothing = keep_nothing(request.config);
    const bool keeps_all = mode == "none";
    const std::int64_t least = bytes_with(keeps_all ? keep_everything(request.config) : nothing);
    if (least > memory_bytes)
        fail(text("one step at context ", request.context, keeps_all ? " with --recompute none" : "", " needs at least ", bytes_text(least), " of device memory and ",
                  bytes_text(memory_bytes), " are allowed; take a shorter --context, a smaller --micro-batch", keeps_all ? ", --recompute auto" : "", " or more --memory"),
             ExitCode::does_not_fit);
    if (mode == "all") return nothing;
    if (keeps_all) return keep_everything(request.config);
    std::int64_t fits = 0, too_many = static_cast<std::int64_t>(std::size(kKeepOrder)) * request.config.num_layers + 1;
    while (too_many - fits > 1) {
        const std::int64_t middle = (fits + too_many) / 2;
        (bytes_with(keep_first(request.config, middle)) <= memory_bytes ? fits : too_many) = middle;
    }
    return keep_first(request.config, fits);
}

std::string to_text(const KeepPlan& keep) {
    const char* names[] = {"attention", "mid", "q/k/v", "gate/up"};
    std::string out;
    for (std::size_t i = 0; i < std::size(kKeepOrder); ++i) {
        std::int64_t layers = 0;
        for (const auto& layer : keep) layers += layer.*kKeepOrder[i];
        out += text(i ? ", " : "", names[i], " ", layers);
    }
    return text(out, " of ", keep.size(), " layers");
}

}  // namespace longlora
