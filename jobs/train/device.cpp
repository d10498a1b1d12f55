// Everything here is decided by all ranks together: those that share a sequence must keep alike, so the one with the
// least memory decides for all.
#include "jobs/train/device.h"

#include <algorithm>

#include "core/clock.h"
#include "core/host.h"
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

/// `auto` is decided once, when a run begins, whatever machine it goes on on.
void keep_dtype(Run& run) {
    if (run.options.dtype != "auto" || run.resume_from.empty()) return;
    parallel::agree(run.group, [&] {
        const Json attributes = read_checkpoint_attributes(run.resume_from);
        run.options.dtype =
            get_text(option_classes_of(member(attributes, "options", run.resume_from), run.resume_from).identity,
                     "dtype", run.resume_from);
    });
}

void choose_types(Run& run) {
    keep_dtype(run);
    if (run.options.dtype == "auto")
        run.options.dtype = run.group.all(good_at_bfloat16(run.choice)) ? "bfloat16" : "float32";
    run.weights_options.real = run.options.dtype == "bfloat16" ? DType::bfloat16 : DType::float32;
    const ParameterList list = list_parameters(run.base.config, run.base.trainables);
    run.weights_options.frozen =
        run.base.files ? frozen_dtype_of(run.weights_options.real, list, *run.base.files) : run.weights_options.real;
    run.weights_options.zero = static_cast<int>(run.options.zero);
}

std::int64_t least_of(const parallel::HostGroup& group, std::int64_t mine) {
    std::int64_t least = mine;
    for (const std::string& other : group.all_gather(std::to_string(least)))
        least = std::min<std::int64_t>(least, std::stoll(other));
    return least;
}

PlanRequest request_of(const Run& run, int rank) {
    PlanRequest request = plan_request(run.options, run.base, run.weights_options, run.shape, rank);
    if (run.choice.kind == DeviceKind::cuda) request.own_bytes = cuda_own_bytes();
    return request;
}

/// The table of the first rank whose step does not fit, from rank 0. Collective; mine: this rank's does not.
void show_misfit(const Run& run, std::int64_t limit, bool mine) {
    const std::vector<std::string> misfits = run.group.all_gather(mine ? "misfit" : "");
    const auto first = std::find(misfits.begin(), misfits.end(), "misfit");
    if (run.leads() && first != misfits.end())
        print_misfit(run.options, request_of(run, static_cast<int>(first - misfits.begin())), limit,
                     run.choice.gpu_name);
}

/// Host memory for snapshots of checkpoints. That of a CPU is its arena's too: what is left, so that a save never ends
/// the run. A GPU's is pinned, all of it when the device is made: what the snapshot takes, if that is a modest part of
/// what is free and the step leaves it, else none, and checkpoints are written in the foreground.
std::int64_t room_for_snapshots(const Run& run, const PlanRequest& request) {
    if (run.choice.kind != DeviceKind::cuda)
        return std::clamp<std::int64_t>(memory_limit("", run.group.node_size()) - run.planned.arena_bytes, 0,
                                        kLargestSnapshot);
    const std::int64_t free = free_memory_bytes() / run.group.node_size(),
                       left = free / 10 * 9 - run.planned.pinned_bytes - kMiB;
    const std::int64_t bytes = snapshot_bytes(request) + kMiB;
    return bytes <= std::min({kLargestSnapshot, free / 4, left}) ? bytes : 0;
}

void choose_what_to_keep(Run& run, std::int64_t limit) {
    bool fits = false;
    try {
        parallel::agree(run.group, [&] {
            const PlanRequest request = request_of(run, run.group.rank());
            run.stage = stage_of(request, request.rank);
            run.activations = choose_activations(request, run.options.recompute, limit);
            fits = true;
            run.planned = plan_step(request, run.activations);
            run.snapshot_bytes = room_for_snapshots(run, request);
        });
    } catch (const parallel::AgreedError& e) {
        if (e.code == ExitCode::does_not_fit) show_misfit(run, limit, !fits);
        throw;
    }
}

std::int64_t pinned_bytes(const Run& run) {
    return run.planned.pinned_bytes + std::max(run.snapshot_bytes, kStagingBytes) + kMiB;
}

/// Before anything is pinned: a computer that has too little of it ends programs, and not always ours. Collective.
void require_pinned_memory(const Run& run) {
    if (run.choice.kind != DeviceKind::cuda) return;
    std::int64_t free = 0;
    parallel::agree(run.group, [&] { free = free_memory_bytes(); });
    const auto hosts = run.group.all_gather(host_name()),
               pinned = run.group.all_gather(std::to_string(pinned_bytes(run))),
               free_there = run.group.all_gather(std::to_string(free));
    std::vector<PinnedShare> shares;
    for (std::size_t rank = 0; rank < hosts.size(); ++rank)
        shares.push_back({hosts[rank], std::stoll(pinned[rank]), std::stoll(free_there[rank])});
    const std::string problem = pinned_memory_problem(shares, run.options.offload == "activations");
    if (!problem.empty()) throw parallel::AgreedError(problem, ExitCode::does_not_fit);
}

/// A GPU's: what is planned. Pieces of documents lie elsewhere than planned ones; choose_activations left room for the
/// gaps.
std::int64_t arena_bytes(const Run& run, std::int64_t limit) {
    if (run.choice.kind != DeviceKind::cuda) return limit;
    const bool gaps = run.options.document_mask.on && run.shape.sequence > 1;
    return gaps ? std::min(limit, run.planned.arena_bytes + run.planned.arena_bytes / 24) : run.planned.arena_bytes;
}

}  // namespace

void open_device(Run& run) {
    run.threads = threads_per_rank(run.group);
    parallel::CommunicatorOptions communicator_options;
    communicator_options.while_waiting = [&run] { run.watched.note_waiting(); };
    const std::int64_t limit = least_of(
        run.group, device_memory_limit(run.group, run.choice, run.options.memory, run.shape, communicator_options));
    choose_types(run);
    choose_what_to_keep(run, limit);
    require_pinned_memory(run);
    parallel::agree(run.group, [&] {
        run.device = make_device(run.choice, run.threads, arena_bytes(run, limit), pinned_bytes(run));
    });
    run.mesh = parallel::make_mesh(*run.device, run.group.handle(), run.shape, communicator_options);
    run.weights_options.data = run.mesh.data.get();
    run.device->set_progress([&run] {
        run.mesh.progress();
        run.note_work();
    });
    run.device->set_waiting([&run] {
        run.mesh.progress();
        run.watched.note_waiting();
    });
}

std::string memory_note(const Run& run) {
    const std::int64_t used = run.device->memory().high_water_bytes(), planned = run.planned.arena_bytes;
    if (used == planned || run.options.document_mask.on) return "";
    return text("device memory: ", bytes_text(used), " were used on rank 0 and ", bytes_text(planned),
                " planned; this is a fault of the plan, please report it");
}

}  // namespace longlora
