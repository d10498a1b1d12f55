// `longlora train`: brings up model, data, device and run folder, all ranks agreeing on each, resumes if there is
// something to resume, then trains.
#include <cstdio>
#include <filesystem>

#include "core/clock.h"
#include "io/file.h"
#include "jobs/command_line/live_line.h"
#include "jobs/command_line/parse.h"
#include "jobs/command_line/same_options.h"
#include "jobs/command_line/tokenizer_note.h"
#include "jobs/command_line/units.h"
#include "jobs/plan/report.h"
#include "jobs/process/environment.h"
#include "jobs/process/signals.h"
#include "jobs/train/device.h"
#include "jobs/train/run_start.h"
#include "model/parameters_json.h"
#include "parallel/agree.h"
#include "train/trainer.h"

namespace longlora {
namespace {

void open_inputs(Run& run) {
    parallel::agree(run.group, [&] {
        run.base = open_base_model(run.options, true);
        run.order = open_data(run.options, run.base.config);
    });
    require_same_content(run.group, "the token files", run.order->content_hash());
    require_same_content(run.group, "config.json", run.base.config.raw.dump());
    run.choice = choose_for_heads(run.choice, run.options.device, run.base.config.head_dim);
    // One rank reads the weights for their hash; the others take its word, or its error.
    parallel::agree(run.group, [&] {
        if (!run.leads() || !run.base.files) return;
        run.base_checksums = tensor_checksums(*run.base.files, [&run] { run.note_work(); });
        run.base.hash = content_hash(*run.base.files, run.base_checksums);
    });
    run.base.hash = run.group.broadcast(run.base.hash);
}

Json checkpoint_attributes(const Run& run, const Json& environment) {
    const auto& o = run.options;
    return {
        {"model_config", Json::parse(run.base.config.raw.dump())},
        {"base_model", o.model.empty() ? Json()
                                       : Json{{"path", std::filesystem::absolute(o.model).lexically_normal().string()},
                                              {"hash", run.base.hash}}},
        {"trainable", to_json(run.base.trainables)},
        {"options", to_json(option_classes(run))},
        {"tokens_per_step", o.global_batch * o.context},
        {"environment", environment}};
}

void introduce(const Run& run) {
    const auto& c = run.base.config;
    const ParameterList list = list_parameters(c, run.base.trainables);
    for (std::int64_t i = 0; run.leads() && i < run.order->num_sources(); ++i)
        run.say(tokenizer_note(run.options.model, run.order->file(i)));
    run.say(text("model: ", c.num_layers, " layers, hidden ", c.hidden, ", ", c.num_heads, "/", c.num_kv_heads,
                 " heads, vocabulary ", c.vocabulary, "; ", list.total_elements(), " parameters, ",
                 list.trainable_elements(), " trained (", run.options.method, ")"));
    run.say(text("context: ", run.options.context, " tokens, attention ", run.options.attention, ", group ",
                 run.options.group, ", ", rope_text(c.rope)));
    run.say(text("machine: ", run.group.size(), " rank(s) x ", run.threads, " thread(s), ", run.device->description(),
                 ", computing in ", run.options.dtype));
    const auto& m = run.mesh.shape;
    if (run.group.size() > 1)
        run.say(text("mesh: pipeline ", m.pipeline, " x data ", m.data, " x sequence ", m.sequence, ", ZeRO ",
                     run.options.zero));
    run.say(run.choice.note);
    run.say(text("memory: kept for backward", m.pipeline > 1 ? " on the first stage: " : ": ",
                 to_text(run.activations, run.stage)));
}

std::string live_text(const StepReport& r) {
    char line[240];
    std::snprintf(line, sizeof line, "step %lld/%lld  loss %.4f  lr %.2e  norm %.3f  %.0f tokens/s  %s left",
                  static_cast<long long>(r.step), static_cast<long long>(r.steps), r.loss, r.learning_rate, r.grad_norm,
                  r.tokens_per_second, duration_text(r.seconds_left).c_str());
    return line;
}

TrainOutcome train_from(Run& run, std::int64_t first_step) {
    const auto& o = run.options;
    TrainerOptions options;
    options.run_folder = o.run_folder;
    options.schedule = {schedule_kind_of(o.schedule), o.warmup, o.steps, 0};
    options.step = step_options_of(o);
    options.checkpoint_every = o.checkpoint_every;
    options.checkpoint_minutes = o.checkpoint_minutes;
    options.keep_checkpoints = o.keep_checkpoints;
    options.max_snapshot_bytes = run.snapshot_bytes;
    options.planned_arena_bytes = run.planned.arena_bytes;
    options.stop_after_seconds = o.stop_after.empty() ? 0 : parse_seconds(o.stop_after, "--stop-after");
    options.resumed_from = run.resume_from;
    options.writer = run.token;
    LiveLine line;
    const TrainerMessages messages{[&](const StepReport& r) { line.update(live_text(r)); },
                                   [&](const std::string& s) { line.print(s); }};
    TrainerParts parts{run.group, run.mesh, *run.model, *run.order, run.activations, run.attributes, {}, {}, {}, {}};
    parts.stop_requested = [&run] {
        if (stop_signal_came()) run.watched.watchdog.stopping();
        return stop_signal_came();
    };
    parts.note_work = [&run] { run.note_work(); };
    parts.step_done = [&run](std::int64_t step) {
        run.note_work();
        run.watched.watchdog.finished(step);
    };
    parts.require_ours = [&run] {
        if (run.lock) run.lock->require_held();
        else
            require(is_lock_of(run.options.run_folder, run.token), "the run folder ", run.options.run_folder,
                    " is another job's now");
    };
    return run_training(parts, options, first_step, messages);
}

void tell_outcome(const Run& run, const TrainOutcome& outcome) {
    const bool by_itself = run.options.resume == "auto";  // a FILE would be gone back to
    if (outcome.code == ExitCode::done)
        run.say(text("done: ", outcome.step, " steps; 'longlora export ", run.options.run_folder,
                     " OUT --format hf' makes a model of it"));
    else if (outcome.code == ExitCode::stopped)
        run.say(
            text(outcome.sentence,
                 by_itself ? "; the same command goes on from " : "; the same command with --resume auto goes on from ",
                 outcome.checkpoint));
    else if (run.leads()) std::fprintf(stderr, "longlora: %s\n", outcome.sentence.c_str());
}

}  // namespace

Run::Run(const TrainOptions& o, const parallel::HostGroup& ranks)
    : options(o),
      watched(ranks, o.timeout, "the same command goes on from the last checkpoint"),
      group(watched.group) {}

void Run::say(const std::string& sentence) const {
    if (leads() && !sentence.empty()) std::printf("%s\n", sentence.c_str()), std::fflush(stdout);
}

int train_command(const Arguments& arguments, const parallel::HostGroup& ranks) {
    const char* description = "Extends the context length of a Llama model by LongLoRA fine-tuning.";
    const auto parsed =
        parse_on_all_ranks<TrainOptions>(ranks, "train", description, arguments, [](TrainOptions& o) { validate(o); });
    if (!parsed) return 0;
    const TrainOptions& options = *parsed;
    require_same_options(ranks, classes_of(options), {"model", "init", "adapter", "data", "run", "resume", "memory"});
    if (options.device == "plan") return report_plan(options, ranks);
    parallel::MeshShape shape;
    parallel::agree(ranks, [&] { shape = parallel::mesh_shape_of(ranks.size(), options.pipeline, options.sequence); });
    Run run(options, ranks);
    run.shape = shape;
    run.choice = choose_device(run.group, options.device);
    lock_existing_folder(run);
    open_inputs(run);
    find_resume_source(run);
    open_device(run);
    run.attributes = checkpoint_attributes(run, environment_of(run.group, *run.device, run.threads, arguments));
    parallel::agree(run.group, [&] {
        run.weights = make_weights(*run.device, run.base, run.weights_options, run.stage, run.options.seed);
        run.model = std::make_unique<Model>(*run.weights, pattern_of(run.options), run.options.context,
                                            run.mesh.sequence.get(), run.options.offload == "activations");
    });
    introduce(run);
    const std::int64_t first_step = load_resume_source(run);
    run.base.files.reset();
    run.base.adapter.reset();
    begin_in_folder(run, first_step);
    run.device->recorder().time = run.options.profile.on;
    const TrainOutcome outcome = train_from(run, first_step);
    if (run.options.profile.on) print_profile(run.device->recorder(), run.leads());
    if (outcome.step >= first_step) run.say(memory_note(run));
    tell_outcome(run, outcome);
    return static_cast<int>(outcome.code);
}

}  // namespace longlora
