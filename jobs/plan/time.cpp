// The formulas of jobs/plan/time.h, which lists all assumptions.
#include "jobs/plan/time.h"

#include <algorithm>

namespace longlora {
namespace {

/// The backward part of a step: with recomputation, a backward pass of frozen matrices takes about two forward passes.
constexpr double kBackwardShare = 2.0 / 3;

bool is_attention(std::string_view operation) { return operation.starts_with("attention_"); }

double seconds_over(const Link& link, double bytes, double messages) {
    return messages * link.latency.value + bytes / link.bandwidth.value;
}

/// The share of a rank's bytes on an axis that goes to other nodes. On the data axis a rank sends equally much to all
/// ranks of its stage. On the other axes it sends to neighbours: if any two neighbours of the mesh are on different
/// nodes, all ranks wait for that link.
double share_outside(const MachineModel& machine, const PlanRequest& request, const std::string& axis) {
    const int devices = static_cast<int>(machine.devices_per_node.value),
              stage_ranks = request.mesh.data * request.mesh.sequence;
    if (devices == 0 || request.mesh.num_ranks() <= devices) return 0;
    if (axis == "pipeline") return 1;
    if (axis == "sequence") return devices % request.mesh.sequence == 0 ? 0 : 1;
    const int first = request.rank / stage_ranks * stage_ranks, node = request.rank / devices;
    // The stage's ranks on this rank's node, this rank included.
    const int near = std::min(first + stage_ranks, (node + 1) * devices) - std::max(first, node * devices);
    return static_cast<double>(stage_ranks - near) / std::max(1, stage_ranks - 1);
}

double axis_seconds(const MachineModel& machine, const PlanRequest& request, const std::string& axis, double bytes,
                    double messages) {
    const double outside = share_outside(machine, request, axis);
    return seconds_over(machine.between_nodes, bytes * outside, messages * outside) +
           seconds_over(machine.inside_node, bytes * (1 - outside), messages * (1 - outside));
}

/// The bytes of its updated weights that a rank sends with ZeRO 1 and 2; 0 with other stages.
double update_bytes(const PlanRequest& request, const StepPlan& step) {
    if (request.weights.zero != 1 && request.weights.zero != 2) return 0;
    const double own_elements =
        static_cast<double>(step.by_use[static_cast<std::size_t>(Use::moments)]) / 8;  // two float32 moments each
    return own_elements * static_cast<double>(size_of(request.weights.real)) *
           (request.mesh.data * request.mesh.sequence - 1);
}

}  // namespace

std::int64_t micro_batches_of(const StepOptions& step, parallel::MeshShape mesh) {
    const std::int64_t most = (step.global_batch + mesh.data - 1) / mesh.data;
    return (most + step.micro_batch - 1) / step.micro_batch;
}

OperationSeconds operation_seconds(const MachineModel& machine, DType real, double cores_per_rank) {
    const double peak = machine.flops_of(real) * cores_per_rank,
                 bandwidth = machine.memory_bandwidth.value * machine.bandwidth_fraction.value * cores_per_rank;
    const double matmul = peak * machine.matmul_fraction.value, attention = peak * machine.attention_fraction_of(real);
    const double host_bandwidth = machine.host_bandwidth.value;
    return [=](std::string_view operation, double flops, double bytes) {
        if (operation.starts_with("copy_to_")) return bytes / host_bandwidth;
        const double moving = bytes / bandwidth;
        if (operation == "matmul") return std::max(flops / matmul, moving);
        return is_attention(operation) ? std::max(flops / attention, moving) : moving;
    };
}

RankTime rank_time(const MachineModel& machine, const PlanRequest& request, const StepPlan& step) {
    const double micro_batches = static_cast<double>(micro_batches_of(request.step, request.mesh));
    double attention = 0, compute = 0;
    for (const auto& [name, record] : step.recorder.by_operation) {
        compute += record.seconds;
        if (is_attention(name)) attention += record.seconds;
    }
    RankTime time{compute, 0, compute / micro_batches};
    const auto hidden_behind = [&](double seconds, double compute_seconds) {
        time.exposed += std::max(0.0, seconds - compute_seconds);
    };
    for (const auto& [axis, sent] : step.traffic) {
        if (sent.messages == 0 && sent.bytes == 0) continue;
        const double bytes = static_cast<double>(sent.bytes), messages = static_cast<double>(sent.messages);
        if (axis == "data") {
            const double late = std::min(bytes, update_bytes(request, step)),
                         late_seconds = axis_seconds(machine, request, axis, late, 0);
            const int zero = request.weights.zero;
            time.exposed += late_seconds;
            hidden_behind(axis_seconds(machine, request, axis, bytes - late, messages),
                          zero == 3 ? compute : kBackwardShare * compute / (zero == 2 ? 1 : micro_batches));
            continue;
        }
        const double seconds = axis_seconds(machine, request, axis, bytes, messages);
        hidden_behind(seconds, axis == "sequence" ? attention : compute);
        if (axis == "pipeline") time.fill += seconds / micro_batches;
    }
    return time;
}

double step_seconds(const std::vector<RankTime>& stages) {
    const auto slowest = std::max_element(stages.begin(), stages.end(),
                                          [](const RankTime& a, const RankTime& b) { return a.busy() < b.busy(); });
    double seconds = slowest->busy();
    for (auto stage = stages.begin(); stage != stages.end(); ++stage)
        if (stage != slowest) seconds += stage->fill;
    return seconds;
}

}  // namespace longlora
