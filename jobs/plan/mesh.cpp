// All ranks of one stage keep the same activations, so the activation plan is chosen once per stage.
#include "jobs/plan/mesh.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/clock.h"

namespace longlora {
namespace {

/// As in SaverOptions (src/train/checkpoint.h): a save that is larger than kLargestSnapshot goes through staging
/// memory.
constexpr std::int64_t kLargestSnapshot = std::int64_t{4} << 30, kStaging = std::int64_t{64} << 20;

template <class Map> typename Map::mapped_type value_or_zero(const Map& map, const typename Map::key_type& key) {
    const auto at = map.find(key);
    return at == map.end() ? typename Map::mapped_type{} : at->second;
}

/// b + times * (b - a) for each number.
StepPlan extrapolated(const StepPlan& a, const StepPlan& b, std::int64_t times) {
    StepPlan out = b;
    const auto n = static_cast<double>(times);
    for (auto& [name, record] : out.recorder.by_operation) {
        const OpRecord before = value_or_zero(a.recorder.by_operation, name);
        record.calls += times * (record.calls - before.calls);
        record.flops += n * (record.flops - before.flops);
        record.bytes += n * (record.bytes - before.bytes);
        record.seconds += n * (record.seconds - before.seconds);
    }
    const auto extend = [&](parallel::Traffic& sent, const parallel::Traffic& before) {
        sent.bytes += times * (sent.bytes - before.bytes);
        sent.messages += times * (sent.messages - before.messages);
    };
    for (auto& [unit, flops] : out.recorder.flops_by_unit)
        flops += n * (flops - value_or_zero(a.recorder.flops_by_unit, unit));
    for (auto& [axis, sent] : out.traffic) extend(sent, a.traffic.at(axis));
    for (auto& [axis, units] : out.traffic_by_unit)
        for (auto& [unit, sent] : units) extend(sent, value_or_zero(a.traffic_by_unit.at(axis), unit));
    return out;
}

/// The number of operations grows with layers and tiles of tokens; 1e8 layers x tokens plan in about a second.
bool plans_quickly(const RankPlan& rank) {
    const double tokens = static_cast<double>(rank.request.context) / rank.request.mesh.sequence *
                          static_cast<double>(rank.request.step.global_batch) / rank.request.mesh.data;
    return tokens * static_cast<double>(rank.stage.num_layers) < 1e8;
}

ActivationPlan activations_of_stage(const PlanRequest& request, const PlanGoal& goal, bool exact, std::string& misfit) {
    // Gaps in the arena were seen to grow by 3 % with more micro-batches in a pipeline.
    const std::int64_t limit = arena_limit(goal), gaps = request.mesh.pipeline > 1 ? limit / 25 : 0;
    try {
        return exact ? choose_activations(request, goal.recompute, limit)
                     : choose_activations(shortened(request, request.mesh.pipeline + 2), goal.recompute, limit - gaps);
    } catch (const Error& e) {
        if (e.code != ExitCode::does_not_fit) throw;
        if (misfit.empty()) misfit = e.what();
        return goal.recompute == "none" ? keep_everything(request.config) : keep_least(request.config);
    }
}

Balance device_balance(const PlanGoal& goal, const StepPlan& step) {
    const std::int64_t outside = goal.machine.outside_device_bytes(), limit = arena_limit(goal);
    return {step.arena_bytes + outside, limit + outside};
}

std::int64_t host_bytes(const PlanGoal& goal, const RankPlan& rank) {
    return (goal.machine.device_is_host() ? rank.step.arena_bytes : 0) + rank.step.pinned_bytes + rank.snapshot_bytes +
           goal.machine.outside_host_bytes();
}

/// The host memory of a node whose ranks all need as much as the largest. When --memory is given for a device that is
/// the host, it limits each rank, and the memory of the node is not known.
Balance host_balance(const PlanGoal& goal, const std::vector<RankPlan>& ranks, int num_ranks) {
    std::int64_t most_bytes = 0;
    for (const auto& rank : ranks) most_bytes = std::max(most_bytes, host_bytes(goal, rank));
    const double devices = goal.machine.devices_per_node.value, memory = goal.machine.node_memory.value;
    const int on_node = std::min(num_ranks, devices > 0 ? static_cast<int>(devices) : goal.ranks_per_node);
    const std::int64_t free_here = goal.machine.device_is_host() && goal.memory_bytes > 0 ? 0 : goal.free_host_bytes;
    return {most_bytes * on_node, memory > 0 ? static_cast<std::int64_t>(memory) : free_here};
}

/// A stage that was not planned is given the time of a planned stage with as many layers.
double seconds_of(const PlanRequest& request, const std::vector<RankPlan>& ranks) {
    std::vector<RankTime> stages;
    for (const Stage& stage : stages_of(request.config, request.mesh.pipeline, request.pattern, request.context)) {
        RankTime slowest;
        for (const auto& rank : ranks)
            if (rank.stage.num_layers == stage.num_layers && rank.stage.has_embedding == stage.has_embedding &&
                rank.stage.has_head == stage.has_head && rank.time.busy() > slowest.busy())
                slowest = rank.time;
        stages.push_back(slowest);
    }
    return step_seconds(stages);
}

}  // namespace

const RankPlan& MeshPlan::rank_with_most_memory() const {
    return *std::max_element(ranks.begin(), ranks.end(),
                             [](const RankPlan& a, const RankPlan& b) { return a.device.used < b.device.used; });
}

std::vector<int> representative_ranks(const PlanRequest& request) {
    const parallel::MeshShape mesh = request.mesh;
    const auto stages = stages_of(request.config, mesh.pipeline, request.pattern, request.context);
    const auto sequences = [&](int data) {
        return parallel::even_share_of(request.step.global_batch, data, mesh.data).count;
    };
    int most = 0, least = 0;
    for (int data = 0; data < mesh.data; ++data) {
        if (sequences(data) > sequences(most)) most = data;
        if (sequences(data) < sequences(least)) least = data;
    }
    std::set<int> ranks;
    for (int p = 0; p < mesh.pipeline; ++p) {
        const Stage& stage = stages[p];
        const bool like_before = p > 1 && p < mesh.pipeline - 1 &&
                                 std::any_of(stages.begin() + 1, stages.begin() + p,
                                             [&](const Stage& s) { return s.num_layers == stage.num_layers; });
        // Inner stages differ only in their number of layers, and the first stage with a number has the most
        // micro-batches alive.
        if (like_before) continue;
        for (int data : {0, least, most})
            for (int sequence : {0, std::min(1, mesh.sequence - 1), std::max(0, mesh.sequence - 2), mesh.sequence - 1})
                ranks.insert(parallel::rank_of(mesh, {p, data, sequence}));
    }
    return {ranks.begin(), ranks.end()};
}

StepPlan plan_many(const PlanRequest& request, const ActivationPlan& activations) {
    const std::int64_t all = micro_batches_of(request.step, request.mesh), enough = request.mesh.pipeline + 1,
                       left_out = all - enough - 1;
    if (left_out <= 0) return plan_step(request, activations);
    // Every rank's share of the sequences shrinks by `fewer` full micro-batches.
    const auto with_fewer = [&](std::int64_t fewer) {
        PlanRequest shorter = request;
        shorter.step.global_batch -= fewer * request.step.micro_batch * request.mesh.data;
        return plan_step(shorter, activations);
    };
    return extrapolated(with_fewer(left_out + 1), with_fewer(left_out), left_out);
}

PlanRequest shortened(const PlanRequest& request, std::int64_t micro_batches) {
    PlanRequest few = request;
    few.step.global_batch =
        std::min(request.step.global_batch, request.step.micro_batch * request.mesh.data * micro_batches);
    return few;
}

ActivationPlan keep_least(const ModelConfig& config) {
    return ActivationPlan(config.num_layers, KeptActivations{.halo = false});
}

std::int64_t arena_limit(const PlanGoal& goal) {
    const MachineModel& machine = goal.machine;
    // A tenth of the free memory stays for pinned buffers, snapshots and libraries.
    const std::int64_t left = machine.device_is_host()
                                  ? goal.free_host_bytes / 10 * 9 / goal.ranks_per_node
                                  : std::max<std::int64_t>(0, static_cast<std::int64_t>(machine.device_memory.value) -
                                                                  machine.outside_device_bytes());
    if (goal.memory_bytes == 0) return left;
    return machine.device_is_host() ? goal.memory_bytes : std::min(goal.memory_bytes, left);
}

std::int64_t snapshot_bytes(const PlanRequest& request) {
    const Stage stage = stage_of(request, request.rank);
    const ParameterList list = list_parameters(request.config, request.trainables);
    std::int64_t elements = 0;
    for (std::size_t unit = 0; unit < list.units.size(); ++unit) {
        const auto layer = static_cast<std::int64_t>(unit) - 1;
        const bool own_layer = layer >= stage.first_layer && layer < stage.first_layer + stage.num_layers;
        if (own_layer || (unit == 0 && stage.has_embedding) || (unit + 1 == list.units.size() && stage.has_head))
            elements += list.units[unit].trainable_count;
    }
    const std::int64_t ranks = request.mesh.data * request.mesh.sequence,
                       bytes = (elements + ranks - 1) / ranks * 12;  // master and two moments, float32
    return bytes <= kLargestSnapshot ? bytes : kStaging;
}

MeshPlan plan_mesh(const PlanRequest& request, const PlanGoal& goal, const std::vector<int>& ranks) {
    MeshPlan plan;
    std::map<int, ActivationPlan> keeps;  // by pipeline coordinate
    for (const int rank : ranks) {
        RankPlan one;
        one.request = request;
        one.request.rank = rank;
        one.stage = stage_of(request, rank);
        one.request.seconds_of = operation_seconds(goal.machine, request.weights.real, goal.cores_per_rank);
        const int p = parallel::coordinate_of(request.mesh, rank).pipeline;
        const bool exact = goal.exact && plans_quickly(one);
        if (!keeps.count(p)) keeps[p] = activations_of_stage(one.request, goal, exact, plan.misfit);
        one.activations = keeps[p];
        one.step = exact ? plan_step(one.request, one.activations) : plan_many(one.request, one.activations);
        one.snapshot_bytes = snapshot_bytes(one.request);
        one.time = rank_time(goal.machine, one.request, one.step);
        one.device = device_balance(goal, one.step);
        if (!one.device.fits() && plan.misfit.empty())
            plan.misfit =
                text("rank ", rank, " needs ", bytes_text(one.device.used), " of device memory, but only ",
                     bytes_text(one.device.limit), " are available; take a shorter --context, more ranks, or --zero 3");
        plan.ranks.push_back(std::move(one));
    }
    plan.step_seconds = seconds_of(request, plan.ranks);
    plan.host = host_balance(goal, plan.ranks, request.mesh.num_ranks());
    if (!plan.host.fits() && plan.misfit.empty())
        plan.misfit = text("a node needs ", bytes_text(plan.host.used), " of host memory but has only ",
                           bytes_text(plan.host.limit), "; start fewer ranks on each node");
    plan.fits = plan.misfit.empty();
    return plan;
}

}  // namespace longlora
