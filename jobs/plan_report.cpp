// `longlora plan`, `train --device plan` and `train --profile`.
#include "jobs/plan_report.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "core/clock.h"
#include "dist/agree.h"
#include "io/file.h"
#include "jobs/train_setup.h"

namespace longlora {
namespace {

Json plan_json(const StepPlan& plan) {
    Json uses = Json::object();
    for (int use = 0; use < kNumUses; ++use) uses[std::string(name_of(Use(use)))] = plan.by_use[static_cast<std::size_t>(use)];
    Json traffic = Json::object();
    for (const auto& [axis, sent] : plan.traffic) traffic[axis] = {{"bytes", sent.bytes}, {"messages", sent.messages}};
    return {{"bytes", uses}, {"bytes_total", plan.arena_bytes}, {"pinned_bytes", plan.pinned_bytes}, {"flops", plan.recorder.flops()}, {"traffic", traffic}};
}

void print_plan(const TrainOptions& o, const StepPlan& plan, const KeepPlan& keep, const Stage& stage, int rank, int ranks) {
    std::printf("one step on rank %d of %d: context %lld, global batch %lld, micro-batch %lld, %s\n", rank, ranks, static_cast<long long>(o.context), static_cast<long long>(o.global_batch),
                static_cast<long long>(o.micro_batch), o.dtype.c_str());
    for (int use = 0; use < kNumUses; ++use)
        if (const auto bytes = plan.by_use[static_cast<std::size_t>(use)]; bytes) std::printf("  %-12s %12s\n", std::string(name_of(Use(use))).c_str(), bytes_text(bytes).c_str());
    std::printf("  %-12s %12s   (highest address of the arena, gaps included)\n", "device", bytes_text(plan.arena_bytes).c_str());
    std::printf("  %-12s %12s\n", "pinned host", bytes_text(plan.pinned_bytes).c_str());
    std::printf("  kept for backward: %s\n", to_text(keep, stage).c_str());
    std::printf("  %.4g TFLOP\n", plan.recorder.flops() / 1e12);
    for (const auto& [axis, sent] : plan.traffic) std::printf("  %-12s %12s sent in %lld messages\n", axis.c_str(), bytes_text(sent.bytes).c_str(), static_cast<long long>(sent.messages));
}

}  // namespace

int report_plan(const TrainOptions& given, const dist::HostGroup& group, int ranks, int rank, const std::string& json) {
    TrainOptions o = given;
    if (ranks == 0) ranks = group.size();
    dist::agree(group, [&] {
        if (group.rank() != 0) return;
        require(rank >= 0 && rank < ranks, "--rank ", rank, " is not one of ", ranks, " ranks; take 0 to ", ranks - 1);
        const BaseModel base = open_base_model(o, false);
        if (o.dtype == "auto") o.dtype = make_cpu_device({.memory_bytes = 1 << 20, .num_threads = 0, .instruction_set = ""})->good_at_bfloat16() ? "bfloat16" : "float32";
        WeightsOptions how;
        how.real = o.dtype == "bfloat16" ? DType::bfloat16 : DType::float32;
        const auto& raw = base.config.raw;
        const std::string stored = raw.contains("dtype") ? raw.value("dtype", "") : raw.value("torch_dtype", "");
        how.frozen = how.real == DType::bfloat16 || stored == "bfloat16" ? DType::bfloat16 : DType::float32;
        how.zero = static_cast<int>(o.zero);
        const PlanRequest request = plan_request(o, base, how, dist::mesh_shape_of(ranks, o.pipeline, o.sequence), rank);
        KeepPlan keep = o.recompute == "none" ? keep_everything(base.config) : keep_nothing(base.config);
        try {
            keep = choose_keep(request, o.recompute, memory_limit(o.memory, ranks == group.size() ? group.node_size() : 1));
        } catch (const Error&) {   // what does not fit is shown all the same, then said
            print_plan(o, plan_step(request, keep), keep, stage_of(request, rank), rank, ranks);
            throw;
        }
        const StepPlan plan = plan_step(request, keep);
        print_plan(o, plan, keep, stage_of(request, rank), rank, ranks);
        if (!json.empty()) write_text_file(json, plan_json(plan).dump(1) + "\n");
    });
    return 0;
}

void print_profile(const Recorder& recorder, bool leads) {
    if (!leads) return;
    std::vector<std::pair<std::string_view, OpRecord>> rows(recorder.by_operation.begin(), recorder.by_operation.end());
    std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
    std::printf("%-20s %9s %10s %10s %10s\n", "operation", "calls", "seconds", "GFLOP/s", "GB/s");
    for (const auto& [name, r] : rows)
        std::printf("%-20s %9lld %10.3f %10.1f %10.1f\n", std::string(name).c_str(), static_cast<long long>(r.calls), r.seconds, r.seconds > 0 ? r.flops / r.seconds / 1e9 : 0,
                    r.seconds > 0 ? r.bytes / r.seconds / 1e9 : 0);
}

}  // namespace longlora
