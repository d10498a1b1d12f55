// `longlora plan`: plans one mesh, the best meshes or the longest context, as the options ask, from config.json alone.
// Rank 0 plans; all ranks agree on the outcome.
#include "jobs/plan/command.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>

#include "jobs/command_line/parse.h"
#include "jobs/command_line/units.h"
#include "jobs/command_line/waiting_line.h"
#include "jobs/experiment/setup.h"
#include "jobs/plan/options.h"
#include "jobs/plan/report.h"
#include "jobs/process/output.h"
#include "jobs/process/threads.h"
#include "kernels/cuda_limits.h"
#include "kernels/host_memory.h"
#include "parallel/agree.h"

namespace longlora {
namespace {

constexpr std::size_t kProposals = 10;
constexpr std::int64_t kContextUnit = 1024;

/// The type in which frozen weights are kept, derived from config.json (train reads it from the weight files).
DType frozen_dtype(DType real, const ModelConfig& config) {
    const auto& raw = config.raw;
    const std::string stored = raw.contains("dtype") ? raw.value("dtype", "") : raw.value("torch_dtype", "");
    return real == DType::bfloat16 || stored == "bfloat16" ? DType::bfloat16 : DType::float32;
}

/// The computing type. For "auto": bfloat16 on any GPU and on a processor that is good at it, else float32.
DType real_dtype(const std::string& option, const MachineModel& machine) {
    if (option != "auto") return option == "bfloat16" ? DType::bfloat16 : DType::float32;
    const bool good =
        !machine.device_is_host() ||
        make_cpu_device({.memory_bytes = 1 << 20, .num_threads = 0, .instruction_set = ""})->good_at_bfloat16();
    return good ? DType::bfloat16 : DType::float32;
}

PlanRequest request_of(const TrainOptions& o, const PlanGoal& goal, parallel::MeshShape mesh) {
    const BaseModel base = open_base_model(o, false);
    const std::string problem = goal.machine.device_is_host() ? "" : cuda_head_dim_problem(base.config.head_dim);
    require(problem.empty(), "this model cannot be computed on ", goal.machine.name, ": ", problem,
            "; plan for --machine cpu");
    WeightsOptions weights_options;
    weights_options.real = real_dtype(o.dtype, goal.machine);
    weights_options.frozen = frozen_dtype(weights_options.real, base.config);
    weights_options.zero = static_cast<int>(o.zero);
    PlanRequest request = plan_request(o, base, weights_options, mesh, 0);
    if (!goal.machine.device_is_host()) request.own_bytes = cuda_own_bytes();
    request.progress = goal.progress;
    return request;
}

PlanGoal goal_of(const PlanOptions& options, const parallel::HostGroup& group, int ranks, int threads) {
    PlanGoal goal;
    goal.machine = read_machine(options.machine);
    goal.recompute = options.train.recompute;
    if (!options.train.memory.empty()) goal.memory_bytes = parse_bytes(options.train.memory, "--memory");
    if (!goal.machine.device_is_host()) return goal;
    goal.free_host_bytes = free_memory_bytes();
    // For a job with another number of ranks, only that number is known. Each of its ranks is planned alone on a
    // computer like this one.
    goal.ranks_per_node = ranks == group.size() ? group.node_size() : 1;
    goal.cores_per_rank = threads;
    return goal;
}

std::int64_t rank_number(const std::string& value, int ranks) {
    require_whole_number("--rank", value);
    const std::int64_t rank = std::atoll(value.c_str());
    require(rank >= 0 && rank < ranks, "--rank ", rank, " is not one of ", ranks, " ranks; take 0 to ", ranks - 1,
            ", or all");
    return rank;
}

std::unique_ptr<Output> take_output(const PlanOptions& o) {
    return optional_output(o.json, json_output("a plan", {{"mesh", "fits", "ranks"}, {"found"}}),
                           {o.train.model, o.train.init, o.train.adapter});
}

/// output: of --json; may be null.
void write_json(const Output* output, const Json& json) {
    if (output) output->write_text(json.dump(1) + "\n");
}

void plan_one(const PlanOptions& options, PlanGoal goal, const PlanRequest& request, const Output* output) {
    goal.exact = true;
    const int ranks = request.mesh.num_ranks();
    std::vector<int> planned = representative_ranks(request), shown;
    if (options.rank == "all") {
        planned.resize(ranks);
        std::iota(planned.begin(), planned.end(), 0);
        shown = planned;
    } else if (!options.rank.empty()) {
        shown = {static_cast<int>(rank_number(options.rank, ranks))};
        if (std::find(planned.begin(), planned.end(), shown[0]) == planned.end())
            planned.insert(std::lower_bound(planned.begin(), planned.end(), shown[0]), shown[0]);
    }
    const MeshPlan plan = plan_mesh(request, goal, planned);
    if (options.rank == "all") print_ranks(plan);
    if (shown.empty()) shown = {plan.rank_with_most_memory().request.rank};
    print_plan(options.train, goal, plan, shown.size() == 1 ? shown[0] : plan.rank_with_most_memory().request.rank);
    write_json(output, plan_json(goal, plan, shown));
    if (!plan.fits) fail(plan.misfit, ExitCode::does_not_fit);
}

void plan_best(const PlanOptions& options, const PlanGoal& goal, const PlanRequest& request, int ranks,
               const Output* output) {
    const auto found = find_meshes(request, goal, ranks, kProposals);
    if (!found.empty()) print_found(options.train, found);
    write_json(output, found_json(found));
    if (found.empty())
        fail(text("no mesh of ", ranks, " rank(s) fits a context of ", request.context, " tokens on ",
                  goal.machine.name, "; take a shorter --context, or more --ranks or --memory"),
             ExitCode::does_not_fit);
}

void plan_longest(const PlanOptions& options, const PlanGoal& goal, const PlanRequest& request, int ranks,
                  const Output* output) {
    const auto request_at = [&](std::int64_t context) {
        TrainOptions o = options.train;
        o.context = context;
        if (o.group == 0) validate(o);  // sets --group from the context
        return request_of(o, goal, request.mesh);
    };
    std::vector<MeshChoice> choices{{request.mesh, request.weights.zero, request.step.micro_batch}};
    if (options.find.on) {
        choices = mesh_choices(request_at(kContextUnit), ranks);
        // A larger micro-batch only takes more memory.
        std::erase_if(choices, [](const MeshChoice& s) { return s.micro_batch > 1; });
        // The choices with the most pipeline stages, then with the most sequence ranks, come first: they reach the
        // longest contexts, so most of the others need only one test.
        std::reverse(choices.begin(), choices.end());
    }
    const LongestContext longest = longest_context(request_at, choices, goal, kContextUnit);
    if (longest.context == 0)
        fail(text("a context of ", kContextUnit, " tokens does not fit on ", goal.machine.name, " with ", ranks,
                  " rank(s); take more --ranks or --memory"),
             ExitCode::does_not_fit);
    const int fullest_rank = longest.plan.rank_with_most_memory().request.rank;
    TrainOptions found = options.train;
    found.context = longest.context;
    found.micro_batch = longest.choice.micro_batch;
    print_plan(found, goal, longest.plan, fullest_rank);
    std::printf("longest context that fits: %lld tokens, with %s\n", static_cast<long long>(longest.context),
                options_text(longest.choice).c_str());
    write_json(output, plan_json(goal, longest.plan, {fullest_rank}));
}

int run_plan(const PlanOptions& options, const parallel::HostGroup& group) {
    const int ranks = options.ranks == 0 ? group.size() : static_cast<int>(options.ranks),
              threads = threads_per_rank(group);
    parallel::agree(group, [&] {
        if (group.rank() != 0) return;
        const std::unique_ptr<Output> output = take_output(options);
        WaitingLine line("planning", true);
        PlanGoal goal = goal_of(options, group, ranks, threads);
        goal.progress = [&line] { line.update(); };
        TrainOptions o = options.train;
        if (o.group == 0) validate(o);
        const auto mesh =
            options.find.on ? parallel::MeshShape{1, ranks, 1} : parallel::mesh_shape_of(ranks, o.pipeline, o.sequence);
        const PlanRequest request = request_of(o, goal, mesh);
        if (!options.max_context.on) check_rope_for_context(o, request.config);
        PlanOptions checked = options;
        if (!options.max_context.on) checked.train = o;
        if (options.max_context.on) plan_longest(checked, goal, request, ranks, output.get());
        else if (options.find.on) plan_best(checked, goal, request, ranks, output.get());
        else plan_one(checked, goal, request, output.get());
        std::fflush(stdout);
    });
    return 0;
}

}  // namespace

int plan_command(const Arguments& arguments, const parallel::HostGroup& group) {
    const auto check = [](PlanOptions& options) {
        // The options of a training may be given unchanged; --machine says what device is planned.
        for (const char* device : {"auto", "cpu", "cuda"})
            if (options.train.device == device) options.train.device = "plan";
        require(options.ranks >= 0 && options.ranks <= 1 << 20, "--ranks ", options.ranks,
                " is not a number of ranks; take 1 or more");
        if (options.max_context.on) options.train.context = kContextUnit;
        // Validates only a copy, because validate() fills in derived options. run_plan() does that itself; it derives
        // --group from each context that it tries.
        TrainOptions checked = options.train;
        validate(checked);
    };
    const char* description =
        "Runs a training step on devices that compute nothing and reports its memory, work and time.";
    const auto options = parse_on_all_ranks<PlanOptions>(group, "plan", description, arguments, check);
    return options ? run_plan(*options, group) : 0;
}

int report_plan(const TrainOptions& options, const parallel::HostGroup& group) {
    PlanOptions plan;
    plan.train = options;
    return run_plan(plan, group);
}

}  // namespace longlora
