// All ranks decide together: ranks that share a sequence must keep the same activations, so the rank with the least
// memory decides for all.
#include "jobs/train/fitted_step.h"

#include <algorithm>
#include <functional>

#include "core/host.h"
#include "jobs/command_line/waiting_line.h"
#include "jobs/plan/report.h"
#include "jobs/process/pinned_memory.h"
#include "jobs/process/threads.h"
#include "kernels/host_memory.h"
#include "parallel/agree.h"
#include "train/checkpoint.h"

namespace longlora {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20, kLargestSnapshot = std::int64_t{4} << 30;
constexpr std::int64_t kStagingBytes = 64 * kMiB;  // for loading, and for a save in the foreground (SaverOptions)

using RequestOf = std::function<PlanRequest(int rank)>;

/// `auto` is decided once, when a run begins; the run keeps that type on whatever machine it resumes.
std::string decided_dtype(const parallel::HostGroup& group, const std::string& option, const DeviceChoice& choice,
                          const std::string& resume_from) {
    std::string dtype = option;
    if (dtype == "auto" && !resume_from.empty())
        dtype = parallel::agreed(group, [&] {
            const Json attributes = read_checkpoint_attributes(resume_from);
            const Json& options = member(attributes, "options", resume_from);
            return get_text(option_classes_of(options, resume_from).identity, "dtype", resume_from);
        });
    if (dtype == "auto") dtype = group.all(good_at_bfloat16(choice)) ? "bfloat16" : "float32";
    return dtype;
}

WeightsOptions weights_options_of(const TrainOptions& options, const std::string& dtype, const BaseModel& base) {
    WeightsOptions weights;
    weights.real = dtype == "bfloat16" ? DType::bfloat16 : DType::float32;
    weights.frozen = base.files
                         ? frozen_dtype_of(weights.real, list_parameters(base.config, base.trainables), *base.files)
                         : weights.real;
    weights.zero = static_cast<int>(options.zero);
    return weights;
}

std::int64_t least_of(const parallel::HostGroup& group, std::int64_t mine) {
    std::int64_t least = mine;
    for (const std::string& other : group.all_gather(std::to_string(least)))
        least = std::min<std::int64_t>(least, std::stoll(other));
    return least;
}

/// Rank 0 prints the table of the first rank whose step does not fit. is_misfit: whether the step of this rank does not
/// fit. Collective.
void show_misfit(const parallel::HostGroup& group, const TrainOptions& options, const Resources& resources,
                 const RequestOf& request_of, bool is_misfit) {
    const std::vector<std::string> misfits = group.all_gather(is_misfit ? "misfit" : "");
    const auto first = std::find(misfits.begin(), misfits.end(), "misfit");
    if (group.rank() == 0 && first != misfits.end())
        print_misfit(options, request_of(static_cast<int>(first - misfits.begin())), resources.memory_bytes,
                     resources.choice.gpu_name);
}

/// Host memory for snapshots of checkpoints. On a CPU the arena is in the same memory, so snapshots get what the step
/// leaves, and a save never ends the run. A GPU's host memory is pinned, all of it when the device is made: snapshots
/// get what they take if that is a modest part of the free memory and the step leaves it. Otherwise they get nothing,
/// and checkpoints are written in the foreground.
std::int64_t room_for_snapshots(const parallel::HostGroup& group, const DeviceChoice& choice,
                                const PlanRequest& request, const StepPlan& plan) {
    if (choice.kind != DeviceKind::cuda)
        return std::clamp<std::int64_t>(memory_limit("", group.node_size()) - plan.arena_bytes, 0, kLargestSnapshot);
    const std::int64_t free = free_memory_bytes() / group.node_size(), left = free / 10 * 9 - plan.pinned_bytes - kMiB;
    const std::int64_t bytes = snapshot_bytes(request) + kMiB;
    return bytes <= std::min({kLargestSnapshot, free / 4, left}) ? bytes : 0;
}

/// The arena of the device. A GPU's has the planned size. With a document mask, sequence ranks have other pieces than
/// the planned ones, at other addresses; choose_activations left room for the gaps between them.
std::int64_t arena_bytes_of(const TrainOptions& options, const Resources& resources, const StepPlan& plan) {
    if (resources.choice.kind != DeviceKind::cuda) return resources.memory_bytes;
    const bool gaps = options.document_mask.on && resources.shape.sequence > 1;
    return gaps ? std::min(resources.memory_bytes, plan.arena_bytes + plan.arena_bytes / 24) : plan.arena_bytes;
}

/// What the ranks keep. fits: becomes whether the step of this rank's stage fits. Collective.
ActivationPlan choose_on_all_ranks(const parallel::HostGroup& group, const PlanRequest& request,
                                   const std::string& recompute, std::int64_t memory_bytes, bool& fits) {
    fits = true;
    return choose_together(request, recompute, memory_bytes, [&](const std::function<std::int64_t()>& work) {
        const std::int64_t mine = parallel::agreed(group, [&] {
            try {
                return work();
            } catch (...) {
                fits = false;
                throw;
            }
        });
        std::vector<std::int64_t> all;
        for (const std::string& number : group.all_gather(std::to_string(mine))) all.push_back(std::stoll(number));
        return all;
    });
}

FittedStep fit_this_rank(const parallel::HostGroup& group, const TrainOptions& options, const Resources& resources,
                         const std::string& dtype, const RequestOf& request_of) {
    bool fits = false;
    try {
        const PlanRequest request = parallel::agreed(group, [&] { return request_of(group.rank()); });
        const ActivationPlan activations =
            choose_on_all_ranks(group, request, options.recompute, resources.memory_bytes, fits);
        return parallel::agreed(group, [&] {
            const Stage stage = stage_of(request, request.rank);
            const StepPlan plan = plan_step(request, activations);
            const std::int64_t snapshot = room_for_snapshots(group, resources.choice, request, plan);
            return FittedStep{dtype,
                              request.weights,
                              stage,
                              activations,
                              plan,
                              snapshot,
                              arena_bytes_of(options, resources, plan),
                              plan.pinned_bytes + std::max(snapshot, kStagingBytes) + kMiB};
        });
    } catch (const parallel::AgreedError& e) {
        if (e.code == ExitCode::does_not_fit) show_misfit(group, options, resources, request_of, !fits);
        throw;
    }
}

/// Refuses before anything is pinned: a node that runs out of memory ends processes, and not always ours. Collective.
void require_pinned_memory(const parallel::HostGroup& group, const TrainOptions& options, std::int64_t pinned_bytes) {
    const std::int64_t free = parallel::agreed(group, [] { return free_memory_bytes(); });
    const auto hosts = group.all_gather(host_name()), pinned = group.all_gather(std::to_string(pinned_bytes)),
               free_there = group.all_gather(std::to_string(free));
    std::vector<PinnedShare> shares;
    for (std::size_t rank = 0; rank < hosts.size(); ++rank)
        shares.push_back({hosts[rank], std::stoll(pinned[rank]), std::stoll(free_there[rank])});
    const std::string problem = pinned_memory_problem(shares, options.offload == "activations");
    if (!problem.empty()) throw parallel::AgreedError(problem, ExitCode::does_not_fit);
}

}  // namespace

Resources find_resources(WatchedGroup& watched, const TrainOptions& options, const DeviceChoice& choice,
                         parallel::MeshShape shape) {
    const parallel::HostGroup& group = watched.group;
    const int threads = threads_per_rank(group);
    const std::int64_t limit =
        device_memory_limit(group, choice, options.memory, shape, communicator_options_of(watched));
    return {choice, shape, threads, least_of(group, limit)};
}

FittedStep fit_step(WatchedGroup& watched, const TrainOptions& options, const BaseModel& base,
                    const Resources& resources, const std::string& resume_from) {
    const parallel::HostGroup& group = watched.group;
    WaitingLine line("planning the step", group.rank() == 0);
    const std::string dtype = decided_dtype(group, options.dtype, resources.choice, resume_from);
    const WeightsOptions weights = weights_options_of(options, dtype, base);
    const auto request_of = [&](int rank) {
        PlanRequest request = plan_request(options, base, weights, resources.shape, rank);
        if (resources.choice.kind == DeviceKind::cuda) request.own_bytes = cuda_own_bytes();
        request.progress = [&] { watched.note_work(), line.update(); };
        return request;
    };
    const FittedStep step = fit_this_rank(group, options, resources, dtype, request_of);
    if (resources.choice.kind == DeviceKind::cuda) require_pinned_memory(group, options, step.pinned_bytes);
    return step;
}

}  // namespace longlora
