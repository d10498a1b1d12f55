// Each number that decides whether a plan fits is printed beside its limit. Estimates are called estimates.
#include "jobs/plan/report.h"

#include <algorithm>
#include <cstdio>

#include "core/clock.h"
#include "jobs/command_line/describe.h"

namespace longlora {
namespace {

void row(const std::string& name, const std::string& value, const std::string& note = "") {
    std::printf("    %-22s %12s%s%s\n", name.c_str(), value.c_str(), note.empty() ? "" : "   ", note.c_str());
}
void bytes_row(const std::string& name, std::int64_t bytes, const std::string& note = "") {
    if (bytes) row(name, bytes_text(bytes), note);
}
void balance_row(const char* name, const Balance& balance) {
    row(name, bytes_text(balance.used),
        balance.limit ? text("of ", bytes_text(balance.limit), balance.fits() ? "" : ": TOO MUCH") : "");
}

/// "48 ms", "3.21 s", "226 s", "3 h 05 min".
std::string step_text(double seconds) {
    char out[32];
    if (seconds >= 6000) return duration_text(seconds);
    std::snprintf(out, sizeof out,
                  seconds < 1     ? "%.0f ms"
                  : seconds < 100 ? "%.2f s"
                                  : "%.0f s",
                  seconds < 1 ? 1000 * seconds : seconds);
    return out;
}

std::string stage_text(const Stage& stage) {
    return text(stage.has_embedding ? "embedding, " : "", "layers ", stage.first_layer + 1, " to ",
                stage.first_layer + stage.num_layers, stage.has_head ? ", head" : "");
}

void print_head(const TrainOptions& o, const PlanGoal& goal, const PlanRequest& request) {
    const auto& mesh = request.mesh;
    std::printf("%d rank(s) on %s: pipeline %d x data %d x sequence %d, ZeRO %d\n", mesh.num_ranks(),
                goal.machine.name.c_str(), mesh.pipeline, mesh.data, mesh.sequence, request.weights.zero);
    std::printf(
        "one step: %s sequences of %s tokens, attention %s, group %s, micro-batch %s (%s of them on a rank), %s\n",
        grouped(o.global_batch).c_str(), grouped(request.context).c_str(), o.attention.c_str(),
        grouped(request.pattern.group).c_str(), grouped(o.micro_batch).c_str(),
        grouped(micro_batches_of(request.step, mesh)).c_str(), std::string(name_of(request.weights.real)).c_str());
}

void print_memory(const PlanGoal& goal, const MeshPlan& plan, const RankPlan& rank) {
    std::printf("  device memory\n");
    std::int64_t in_use = 0;
    for (int use = 0; use < kNumUses; ++use) {
        const std::int64_t bytes = rank.step.by_use[use];
        in_use += bytes;
        bytes_row(std::string(name_of(Use(use))), bytes);
    }
    bytes_row("gaps", rank.step.arena_bytes - in_use, "unused bytes below the highest address");
    for (const auto& entry : goal.machine.outside_device)
        bytes_row(entry.name, static_cast<std::int64_t>(entry.bytes.value), "outside of the arena");
    balance_row("together", rank.device);
    std::printf("  host memory\n");
    bytes_row("pinned buffers", rank.step.pinned_bytes);
    bytes_row(
        "checkpoint snapshot", rank.snapshot_bytes,
        goal.machine.device_is_host() ? "at most; with less free memory, checkpoints are written without it" : "");
    for (const auto& entry : goal.machine.outside_host)
        bytes_row(entry.name, static_cast<std::int64_t>(entry.bytes.value), "outside of the arena");
    balance_row("a node, all its ranks", plan.host);
}

/// The bytes and messages on an axis of the layer that sends the most.
std::string layer_text(const RankPlan& rank, const std::string& axis) {
    parallel::Traffic most;
    for (const auto& [unit, sent] : rank.step.traffic_by_unit.at(axis))
        if (unit >= 1 && unit <= rank.request.config.num_layers && sent.bytes > most.bytes) most = sent;
    return most.messages ? text("; a layer at most ", bytes_text(most.bytes), " in ", grouped(most.messages)) : "";
}

void print_work(const TrainOptions& o, const RankPlan& rank) {
    std::printf("  kept for backward: %s\n  operations\n", to_text(rank.activations, rank.stage).c_str());
    OpRecord matmul, attention, other;
    for (const auto& [name, record] : rank.step.recorder.by_operation) {
        OpRecord& sum = name == "matmul" ? matmul : name.starts_with("attention_") ? attention : other;
        sum.flops += record.flops, sum.seconds += record.seconds;
    }
    const std::pair<const char*, const OpRecord*> kinds[] = {
        {"matrix products", &matmul}, {"attention", &attention}, {"others", &other}};
    for (const auto& [name, record] : kinds) {
        char flops[32];
        std::snprintf(flops, sizeof flops, "%.4g TFLOP", record->flops / 1e12);
        row(name, flops, "about " + step_text(record->seconds));
    }
    std::printf("  sent by this rank%s\n", o.document_mask.on ? ", at most (documents in the data reduce it)" : "");
    for (const auto& [axis, sent] : rank.step.traffic)
        if (sent.messages)
            row(axis, bytes_text(sent.bytes), text("in ", grouped(sent.messages), " messages", layer_text(rank, axis)));
}

void print_time(const TrainOptions& o, const PlanGoal& goal, const MeshPlan& plan, const RankPlan& rank) {
    const double idle = plan.step_seconds - rank.time.busy(),
                 tokens = static_cast<double>(o.global_batch * rank.request.context) / plan.step_seconds;
    const auto& m = goal.machine;
    std::printf(
        "  estimated: %s a step = %s of operations + %s of messages that no operation hides + %s idle (%.0f %%, "
        "waiting for the pipeline and slower ranks)\n",
        step_text(plan.step_seconds).c_str(), step_text(rank.time.compute).c_str(),
        step_text(rank.time.exposed).c_str(), step_text(idle).c_str(), 100 * idle / plan.step_seconds);
    std::printf(
        "  that is %s tokens/s, %s for %s steps, if a rank's matrix products reach %.3g TFLOP/s, its attention %.3g "
        "TFLOP/s, its memory %.4g GB/s,\n",
        grouped(static_cast<std::int64_t>(tokens)).c_str(),
        duration_text(plan.step_seconds * static_cast<double>(o.steps)).c_str(), grouped(o.steps).c_str(),
        goal.cores_per_rank * m.flops_of(rank.request.weights.real) * m.matmul_fraction.value / 1e12,
        goal.cores_per_rank * m.flops_of(rank.request.weights.real) *
            m.attention_fraction_of(rank.request.weights.real) / 1e12,
        goal.cores_per_rank * m.memory_bandwidth.value * m.bandwidth_fraction.value / 1e9);
    std::printf("  its links %.4g GB/s inside of a node and %.4g GB/s between nodes; an estimate, not a measurement\n",
                m.inside_node.bandwidth.value / 1e9, m.between_nodes.bandwidth.value / 1e9);
}

std::string unit_name(int unit, const ModelConfig& config) {
    return unit < 0 ? "step" : unit == 0 ? "embedding" : unit <= config.num_layers ? text("layer ", unit) : "head";
}

/// FLOPs and traffic of each of the rank's units; "step" has the part that belongs to no unit.
Json units_json(const RankPlan& rank) {
    Json units = Json::object();
    for (const auto& [unit, flops] : rank.step.recorder.flops_by_unit)
        units[unit_name(unit, rank.request.config)]["flops"] = flops;
    for (const auto& [axis, sent_by_unit] : rank.step.traffic_by_unit)
        for (const auto& [unit, sent] : sent_by_unit)
            units[unit_name(unit, rank.request.config)]["traffic"][axis] = {{"bytes", sent.bytes},
                                                                            {"messages", sent.messages}};
    return units;
}

Json rank_json(const PlanGoal& goal, const MeshPlan& plan, const RankPlan& rank) {
    Json uses = Json::object(), traffic = Json::object(), outside = Json::object();
    for (int use = 0; use < kNumUses; ++use) uses[std::string(name_of(Use(use)))] = rank.step.by_use[use];
    for (const auto& [axis, sent] : rank.step.traffic)
        traffic[axis] = {{"bytes", sent.bytes}, {"messages", sent.messages}};
    for (const auto& entry : goal.machine.outside_device)
        outside[entry.name] = static_cast<std::int64_t>(entry.bytes.value);
    const auto at = parallel::coordinate_of(rank.request.mesh, rank.request.rank);
    return {{"rank", rank.request.rank},
            {"coordinate", {{"pipeline", at.pipeline}, {"data", at.data}, {"sequence", at.sequence}}},
            {"layers", {{"first", rank.stage.first_layer}, {"count", rank.stage.num_layers}}},
            {"bytes", uses},
            {"bytes_total", rank.step.arena_bytes},
            {"outside", outside},
            {"pinned_bytes", rank.step.pinned_bytes},
            {"snapshot_bytes", rank.snapshot_bytes},
            {"kept", to_text(rank.activations, rank.stage)},
            {"flops", rank.step.recorder.flops()},
            {"traffic", traffic},
            {"by_unit", units_json(rank)},
            {"seconds", rank.time.busy()},
            {"operation_seconds", rank.time.compute},
            {"exposed_seconds", rank.time.exposed},
            {"idle_seconds", plan.step_seconds - rank.time.busy()}};
}

Json balance_json(const Balance& balance) {
    return {{"used", balance.used}, {"limit", balance.limit ? Json(balance.limit) : Json()}};
}

Json mesh_json(parallel::MeshShape mesh) {
    return {{"pipeline", mesh.pipeline}, {"data", mesh.data}, {"sequence", mesh.sequence}};
}

}  // namespace

std::string options_text(const MeshChoice& choice) {
    return text("--pipeline ", choice.mesh.pipeline, " --sequence ", choice.mesh.sequence, " --zero ", choice.zero,
                " --micro-batch ", choice.micro_batch);
}

void print_plan(const TrainOptions& options, const PlanGoal& goal, const MeshPlan& plan, int rank) {
    const auto shown =
        std::find_if(plan.ranks.begin(), plan.ranks.end(), [&](const RankPlan& r) { return r.request.rank == rank; });
    ensure(shown != plan.ranks.end(), "a rank is planned before it is shown");
    print_head(options, goal, shown->request);
    const auto at = parallel::coordinate_of(shown->request.mesh, rank);
    std::printf("rank %d%s (pipeline %d, data %d, sequence %d): %s\n", rank,
                &*shown == &plan.rank_with_most_memory() ? ", the one with the most memory" : "", at.pipeline, at.data,
                at.sequence, stage_text(shown->stage).c_str());
    print_memory(goal, plan, *shown);
    print_work(options, *shown);
    print_time(options, goal, plan, *shown);
    std::printf("fits: %s\n", plan.fits ? "yes" : "no");
}

void print_ranks(const MeshPlan& plan) {
    std::printf("%6s %8s %6s %8s %12s %12s %12s %12s %12s %12s\n", "rank", "pipeline", "data", "sequence", "device",
                "TFLOP", "to pipeline", "to data", "to sequence", "busy");
    for (const auto& rank : plan.ranks) {
        const auto at = parallel::coordinate_of(rank.request.mesh, rank.request.rank);
        const auto sent = [&](const char* axis) { return bytes_text(rank.step.traffic.at(axis).bytes); };
        std::printf("%6d %8d %6d %8d %12s %12.4g %12s %12s %12s %12s\n", rank.request.rank, at.pipeline, at.data,
                    at.sequence, bytes_text(rank.device.used).c_str(), rank.step.recorder.flops() / 1e12,
                    sent("pipeline").c_str(), sent("data").c_str(), sent("sequence").c_str(),
                    step_text(rank.time.busy()).c_str());
    }
}

void print_found(const TrainOptions& options, const std::vector<Found>& found) {
    std::printf("%12s %12s %12s %8s   %s\n", "a step", "tokens/s", "device", "idle",
                "options (data = ranks / pipeline / sequence); times are estimates");
    for (const auto& f : found) {
        const RankPlan& rank = f.plan.rank_with_most_memory();
        std::printf("%12s %12s %12s %7.0f%%   %s\n", step_text(f.plan.step_seconds).c_str(),
                    grouped(static_cast<std::int64_t>(static_cast<double>(options.global_batch * options.context) /
                                                      f.plan.step_seconds))
                        .c_str(),
                    bytes_text(rank.device.used).c_str(), 100 * (1 - rank.time.busy() / f.plan.step_seconds),
                    options_text(f.choice).c_str());
    }
}

Json plan_json(const PlanGoal& goal, const MeshPlan& plan, const std::vector<int>& ranks) {
    const PlanRequest& request = plan.ranks.front().request;
    Json list = Json::array();
    for (const auto& rank : plan.ranks)
        if (std::find(ranks.begin(), ranks.end(), rank.request.rank) != ranks.end())
            list.push_back(rank_json(goal, plan, rank));
    return {{"machine", goal.machine.name},
            {"mesh", mesh_json(request.mesh)},
            {"zero", request.weights.zero},
            {"context", request.context},
            {"micro_batches", micro_batches_of(request.step, request.mesh)},
            {"dtype", std::string(name_of(request.weights.real))},
            {"traffic_is_upper_bound", request.step.document_mask},
            {"seconds", plan.step_seconds},
            {"device_memory", balance_json(plan.rank_with_most_memory().device)},
            {"host_memory", balance_json(plan.host)},
            {"fits", plan.fits},
            {"ranks", list}};
}

Json found_json(const std::vector<Found>& found) {
    Json list = Json::array();
    for (const auto& f : found)
        list.push_back({{"mesh", mesh_json(f.choice.mesh)},
                        {"zero", f.choice.zero},
                        {"micro_batch", f.choice.micro_batch},
                        {"seconds", f.plan.step_seconds},
                        {"device_bytes", f.plan.rank_with_most_memory().device.used},
                        {"options", options_text(f.choice)}});
    return {{"found", list}};
}

void print_misfit(const TrainOptions& options, const PlanRequest& request, std::int64_t memory_bytes,
                  const std::string& gpu) {
    PlanGoal goal;
    goal.machine = read_machine(gpu.empty() ? "cpu" : gpu.find("H100") != std::string::npos ? "h100" : "a100-80g");
    if (!gpu.empty()) {  // the memory that this GPU has left
        goal.machine.name = gpu;
        goal.machine.device_memory = {static_cast<double>(memory_bytes), "measured"};
        goal.machine.outside_device.clear();
    }
    goal.recompute = options.recompute;
    goal.memory_bytes = memory_bytes;
    print_plan(options, goal, plan_mesh(request, goal, {request.rank}), request.rank);
    std::fflush(stdout);
}

void print_profile(const Recorder& recorder, bool leads) {
    if (!leads) return;
    std::vector<std::pair<std::string_view, OpRecord>> rows(recorder.by_operation.begin(), recorder.by_operation.end());
    std::sort(rows.begin(), rows.end(),
              [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
    std::printf("%-20s %9s %10s %10s %10s\n", "operation", "calls", "seconds", "GFLOP/s", "GB/s");
    for (const auto& [name, r] : rows)
        std::printf("%-20s %9lld %10.3f %10.1f %10.1f\n", std::string(name).c_str(), static_cast<long long>(r.calls),
                    r.seconds, r.seconds > 0 ? r.flops / r.seconds / 1e9 : 0,
                    r.seconds > 0 ? r.bytes / r.seconds / 1e9 : 0);
}

}  // namespace longlora
