// `longlora train`: brings up model, data, device and run folder, all ranks agreeing on each, resumes if there is something to resume, then trains.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "core/clock.h"
#include "dist/agree.h"
#include "dist/heartbeat.h"
#include "io/file.h"
#include "jobs/commands.h"
#include "jobs/environment.h"
#include "jobs/live_line.h"
#include "jobs/plan_report.h"
#include "jobs/resume_check.h"
#include "jobs/same_options.h"
#include "jobs/signals.h"
#include "jobs/threads.h"
#include "jobs/tokenizer_note.h"
#include "jobs/train_setup.h"
#include "jobs/units.h"
#include "jobs/watchdog.h"
#include "model/content_hash.h"
#include "model/parameters_json.h"
#include "train/trainer.h"

namespace longlora {
namespace {

/// Everything that lives as long as the run.
struct Run {
    TrainOptions options;
    const dist::HostGroup& group;
    BaseModel base;
    std::unique_ptr<DataOrder> order;
    std::unique_ptr<Device> device;
    dist::MeshCommunicators mesh;
    Stage stage;
    std::unique_ptr<Weights> weights;
    std::unique_ptr<Model> model;
    WeightsOptions how;
    KeepPlan keep;
    Json attributes;
    std::string resume_from;               // a checkpoint; "" to begin
    std::unique_ptr<Watchdog> watchdog;    // while training
    std::unique_ptr<dist::Heartbeat> heartbeat;
    std::int64_t snapshot_bytes = 0;       // that a checkpoint may take while training goes on
    int threads = 1;
    explicit Run(const dist::HostGroup& g) : group(g) {}
    bool leads() const { return group.rank() == 0; }
};

void open_inputs(Run& run) {
    dist::agree(run.group, [&] {
        run.base = open_base_model(run.options, true);
        run.order = open_data(run.options, run.base.config);
    });
    require_same_content(run.group, "the token files", run.order->content_hash());
    require_same_content(run.group, "config.json", run.base.config.raw.dump());
    // One rank reads the weights for their hash; the others take its word, or its error.
    dist::agree(run.group, [&] { if (run.leads() && run.base.files) run.base.hash = content_hash(*run.base.files); });
    run.base.hash = run.group.broadcast(run.base.hash);
}

/// `auto` is decided once, when a run begins, whatever machine it goes on on.
void keep_dtype(Run& run) {
    if (run.options.dtype != "auto" || run.resume_from.empty()) return;
    dist::agree(run.group, [&] {
        const Json attributes = read_checkpoint_attributes(run.resume_from);
        run.options.dtype = get_text(option_classes_of(member(attributes, "options", run.resume_from), run.resume_from).identity, "dtype", run.resume_from);
    });
}

/// Ranks that share a sequence must decide alike what they keep, so the rank with the least memory decides for all.
std::int64_t least_of(const dist::HostGroup& group, const std::function<std::int64_t()>& mine) {
    std::int64_t least = 0;
    dist::agree(group, [&] { least = mine(); });
    for (const std::string& other : group.all_gather(std::to_string(least))) least = std::min<std::int64_t>(least, std::stoll(other));
    return least;
}

/// The table of the first rank whose step does not fit, from rank 0. Collective; mine: this rank's does not.
void show_misfit(const Run& run, std::int64_t limit, bool mine) {
    const std::vector<std::string> misfits = run.group.all_gather(mine ? "misfit" : "");
    const auto first = std::find(misfits.begin(), misfits.end(), "misfit");
    if (run.leads() && first != misfits.end())
        print_misfit(run.options, plan_request(run.options, run.base, run.how, run.mesh.shape, static_cast<int>(first - misfits.begin())), limit);
}

void choose_what_to_keep(Run& run, std::int64_t limit) {
    bool fits = false;
    try {
        dist::agree(run.group, [&] {
            const PlanRequest request = plan_request(run.options, run.base, run.how, run.mesh.shape, run.group.rank());
            run.stage = stage_of(request, request.rank);
            run.keep = choose_keep(request, run.options.recompute, limit);
            fits = true;
            // A CPU's snapshots take the same memory as its arena: what is left, so that a save never ends the run.
            run.snapshot_bytes = std::clamp<std::int64_t>(memory_limit("", run.group.node_size()) - plan_step(request, run.keep).arena_bytes, 0, std::int64_t{4} << 30);
        });
    } catch (const dist::AgreedError& e) {
        if (e.code == ExitCode::does_not_fit) show_misfit(run, limit, !fits);
        throw;
    }
}

void open_device(Run& run) {
    run.threads = threads_per_rank(run.group);
    const std::int64_t limit = least_of(run.group, [&] { return memory_limit(run.options.memory, run.group.node_size()); });
    dist::agree(run.group, [&] { run.device = make_cpu_device({.memory_bytes = limit, .num_threads = run.threads, .instruction_set = ""}); });
    // A step may take longer than --timeout, its parts do not; and who waits hears of those who compute.
    run.heartbeat = std::make_unique<dist::Heartbeat>(run.group, parse_seconds(run.options.timeout, "--timeout") / 8, [&run] { if (run.watchdog) run.watchdog->alive(); });
    dist::CommunicatorOptions lines;
    lines.while_waiting = [&run] { run.heartbeat->listen(); };
    run.mesh = dist::make_mpi_mesh(*run.device, run.group.handle(), dist::mesh_shape_of(run.group.size(), run.options.pipeline, run.options.sequence), lines);
    run.device->set_progress([&run] {
        run.mesh.progress();
        run.heartbeat->beat();
    });
    keep_dtype(run);
    if (run.options.dtype == "auto") run.options.dtype = run.group.all(run.device->good_at_bfloat16()) ? "bfloat16" : "float32";
    run.how.real = run.options.dtype == "bfloat16" ? DType::bfloat16 : DType::float32;
    const ParameterList list = list_parameters(run.base.config, run.base.trainables);
    run.how.frozen = run.base.files ? frozen_dtype_of(run.how.real, list, *run.base.files) : run.how.real;
    run.how.zero = static_cast<int>(run.options.zero);
    run.how.data = run.mesh.data.get();
    choose_what_to_keep(run, limit);
}

OptionClasses option_classes(const Run& run) {
    OptionClasses classes = classes_of(run.options);
    classes.identity["model-content"] = run.base.hash;
    classes.identity["data-content"] = run.order->content_hash();
    return classes;
}

Json checkpoint_attributes(const Run& run, const Json& environment) {
    const auto& o = run.options;
    return {{"model_config", Json::parse(run.base.config.raw.dump())},
            {"base_model", o.model.empty() ? Json() : Json{{"path", std::filesystem::absolute(o.model).lexically_normal().string()}, {"hash", run.base.hash}}},
            {"trainable", to_json(run.base.trainables)},
            {"options", to_json(option_classes(run))},
            {"tokens_per_step", o.global_batch * o.context},
            {"environment", environment}};
}

void say(const Run& run, const std::string& sentence) {
    if (run.leads() && !sentence.empty()) std::printf("%s\n", sentence.c_str()), std::fflush(stdout);
}

/// Which checkpoint to go on from; "" for none.
std::string resume_source(Run& run) {
    const auto& o = run.options;
    if (o.resume == "never") {
        dist::agree(run.group, [&] {
            if (run.leads())
                require(list_checkpoints(o.run).empty(), "the run folder ", o.run, " has checkpoints already; take --resume auto to go on from them, or another --run");
        });
        return "";
    }
    const Resumable found = find_resumable(run.group, o.run);
    for (const auto& note : found.notes) say(run, note);
    if (o.resume == "auto") return found.path;
    // A requeued job gives the same command: once it has saved a checkpoint of its own, it goes on from that one, not from FILE again.
    std::string began_from;
    dist::agree(run.group, [&] {
        require(!is_folder(o.resume), "--resume ", o.resume, " is a folder; name one of its files checkpoints/step-*.h5, or go on in it with --run ", o.resume);
        if (!found.path.empty()) began_from = read_checkpoint_attributes(found.path)["options"]["free"].value("resume", "");
    });
    return began_from == o.resume ? found.path : o.resume;
}

/// Options by class, and as identity also what the model's configuration says: weights are known by their content, this is the rest of what decides the computation.
OptionClasses with_computation(OptionClasses options, const ModelConfig& config) {
    options.identity.update(computation_of(config));
    return options;
}

PermittedChanges check_checkpoint(const Run& run, const Json& attributes) {
    const std::string& path = run.resume_from;
    const ModelConfig config = parse_config(nlohmann::ordered_json(member(attributes, "model_config", path)), path);
    return check_options(with_computation(option_classes_of(member(attributes, "options", path), path), config), with_computation(option_classes(run), run.base.config),
                         run.options.allow_change, path);
}

/// Later checkpoints and metrics of a course that is given up are set aside.
void set_aside_after(const Run& run, std::int64_t step) {
    std::int64_t lines = 0;
    dist::agree(run.group, [&] {
        if (!run.leads()) return;
        discard_checkpoints_after(run.options.run, step);
        lines = discard_metrics_after(run.options.run, step);
    });
    if (lines > 0) say(run, text(lines, " lines of metrics after step ", step, " moved to metrics.discarded.jsonl; later checkpoints, if any, are kept as *.discarded"));
}

/// Loads the checkpoint if there is one; returns the first step to do.
std::int64_t resume(Run& run) {
    const std::string& path = run.resume_from;
    if (path.empty()) {
        if (file_exists(run.options.run + "/metrics.jsonl")) say(run, text(run.options.run, " has no checkpoint to go on from; starting at step 1"));
        set_aside_after(run, 0);   // of a run that ended before its first checkpoint
        return 1;
    }
    Json attributes;
    PermittedChanges changes;
    dist::agree(run.group, [&] {
        attributes = read_checkpoint_attributes(path);
        changes = check_checkpoint(run, attributes);
        load_checkpoint(*run.weights, path);
    });
    const std::int64_t step = attributes["step"].get<std::int64_t>();
    set_aside_after(run, step);
    say(run, text("resuming from ", path, " after step ", step));
    if (!changes.schedule.empty()) say(run, text("changed since then: ", changes_text(changes.schedule)));
    const std::vector<OptionChange> rounding = rounding_changes(attributes.value("environment", Json::object()), run.attributes["environment"], changes.free);
    if (!rounding.empty()) say(run, text("results agree with those of the checkpoint's run within rounding, not bit for bit: ", changes_text(rounding)));
    return step + 1;
}

void make_run_folder(const Run& run) {
    dist::agree(run.group, [&] {
        if (!run.leads()) return;
        create_run_folder(run.options.run);
        remove_partials(run.options.run);
    });
}

void write_run_manifest(const Run& run) {
    Json manifest = run.attributes;
    manifest["keep"] = to_text(run.keep, run.stage);
    const ParameterList list = list_parameters(run.base.config, run.base.trainables);
    manifest["parameters"] = {{"total", list.total_elements()}, {"trainable", list.trainable_elements()}};
    manifest["mesh"] = {{"pipeline", run.mesh.shape.pipeline}, {"data", run.mesh.shape.data}, {"sequence", run.mesh.shape.sequence}, {"zero", run.options.zero}};
    Json data = Json::array();
    for (std::int64_t i = 0; i < run.order->num_sources(); ++i)
        data.push_back({{"path", run.order->file(i).path()}, {"hash", run.order->file(i).content_hash()}, {"tokens", run.order->file(i).num_tokens()}});
    manifest["data"] = data;
    dist::agree(run.group, [&] { if (run.leads()) write_manifest(run.options.run, manifest); });
}

void introduce(const Run& run) {
    const auto& c = run.base.config;
    const ParameterList list = list_parameters(c, run.base.trainables);
    for (std::int64_t i = 0; run.leads() && i < run.order->num_sources(); ++i) say(run, tokenizer_note(run.options.model, run.order->file(i)));
    say(run, text("model: ", c.num_layers, " layers, hidden ", c.hidden, ", ", c.num_heads, "/", c.num_kv_heads, " heads, vocabulary ", c.vocabulary, "; ", list.total_elements(),
                  " parameters, ", list.trainable_elements(), " trained (", run.options.method, ")"));
    say(run, text("context: ", run.options.context, " tokens, attention ", run.options.attention, ", group ", run.options.group, ", ", rope_text(c.rope)));
    say(run, text("machine: ", run.group.size(), " rank(s) x ", run.threads, " thread(s), ", run.device->description(), ", computing in ", run.options.dtype));
    const auto& m = run.mesh.shape;
    if (run.group.size() > 1) say(run, text("mesh: pipeline ", m.pipeline, " x data ", m.data, " x sequence ", m.sequence, ", ZeRO ", run.options.zero));
    say(run, text("memory: kept for backward", m.pipeline > 1 ? " on the first stage: " : ": ", to_text(run.keep, run.stage)));
}

std::string live_text(const StepReport& r) {
    char line[240];
    std::snprintf(line, sizeof line, "step %lld/%lld  loss %.4f  lr %.2e  norm %.3f  %.0f tokens/s  %s left", static_cast<long long>(r.step), static_cast<long long>(r.steps), r.loss,
                  r.learning_rate, r.grad_norm, r.tokens_per_second, duration_text(r.seconds_left).c_str());
    return line;
}

TrainOutcome train_from(Run& run, std::int64_t first_step) {
    const auto& o = run.options;
    TrainerOptions options;
    options.run = o.run;
    options.schedule = {schedule_kind_of(o.schedule), o.warmup, o.steps, 0};
    options.step = step_options_of(o);
    options.checkpoint_every = o.checkpoint_every;
    options.checkpoint_minutes = o.checkpoint_minutes;
    options.keep = o.keep;
    options.max_snapshot_bytes = run.snapshot_bytes;
    options.stop_after_seconds = o.stop_after.empty() ? 0 : parse_seconds(o.stop_after, "--stop-after");
    options.resumed_from = run.resume_from;
    run.watchdog = std::make_unique<Watchdog>(parse_seconds(o.timeout, "--timeout"), run.group.rank());
    LiveLine line;
    const TrainerMessages messages{[&](const StepReport& r) { line.update(live_text(r)); }, [&](const std::string& s) { line.keep(s); }};
    return run_training({run.group, run.mesh, *run.model, *run.order, run.keep, run.attributes, stop_signal_came, [&] { run.watchdog->alive(); }}, options, first_step, messages);
}

}  // namespace

int train_command(const Arguments& arguments, const dist::HostGroup& group) {
    Run run(group);
    Parsed parsed;
    dist::agree(group, [&] {
        parsed = parse_options("train", "Extends the context length of a Llama model by LongLoRA fine-tuning.", arguments, run.options);
        if (parsed.run) validate(run.options);
    });
    if (!parsed.run) {
        say(run, parsed.help);
        return 0;
    }
    require_same_options(group, classes_of(run.options), {"model", "init", "adapter", "data", "run", "resume", "memory"});
    if (run.options.device == "plan") return report_plan(run.options, group);
    dist::agree(group, [&] { dist::mesh_shape_of(group.size(), run.options.pipeline, run.options.sequence); });
    open_inputs(run);
    run.resume_from = resume_source(run);
    open_device(run);
    run.attributes = checkpoint_attributes(run, environment_of(group, *run.device, run.threads, arguments));
    dist::agree(group, [&] {
        run.weights = make_weights(*run.device, run.base, run.how, run.stage, run.options.seed);
        run.model = std::make_unique<Model>(*run.weights, pattern_of(run.options), run.options.context, run.mesh.sequence.get());
        run.base.files.reset();
        run.base.adapter.reset();
    });
    introduce(run);
    const std::int64_t first_step = resume(run);
    make_run_folder(run);   // only now: what cannot be trained leaves nothing behind
    if (first_step <= run.options.steps) write_run_manifest(run);   // else the record of who did the steps stays
    run.device->recorder().time = run.options.profile.on;
    const TrainOutcome outcome = train_from(run, first_step);
    if (run.options.profile.on) print_profile(run.device->recorder(), run.leads());
    if (outcome.code == ExitCode::non_finite) {
        if (run.leads()) std::fprintf(stderr, "longlora: %s\n", outcome.sentence.c_str());
    } else {
        const bool by_itself = run.options.resume == "auto";   // a FILE would be gone back to
        say(run, outcome.code == ExitCode::stopped ? text(outcome.sentence, by_itself ? "; the same command goes on from " : "; the same command with --resume auto goes on from ", outcome.checkpoint)
                                                   : text("done: ", outcome.step, " steps; 'longlora export ", run.options.run, " OUT --format hf' makes a model of it"));
    }
    return static_cast<int>(outcome.code);
}

}  // namespace longlora
