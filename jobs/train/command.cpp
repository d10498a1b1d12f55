// `longlora train`: the story of a start. Each step returns a value that later steps need: inputs, resources, the step
// that fits, the machine, the model. If there is a checkpoint, the run resumes from it. Then the loop in src/train
// trains. The run folder is changed only when nothing can be refused any more.
#include <memory>
#include <optional>

#include "jobs/command_line/live_line.h"
#include "jobs/command_line/parse.h"
#include "jobs/command_line/same_options.h"
#include "jobs/command_line/say.h"
#include "jobs/command_line/units.h"
#include "jobs/plan/command.h"
#include "jobs/plan/report.h"
#include "jobs/process/environment.h"
#include "jobs/process/signals.h"
#include "jobs/train/begin_in_folder.h"
#include "jobs/train/messages.h"
#include "run/history.h"

namespace longlora {
namespace {

// What the user can do after a standstill (Watchdog::set_way_out).
constexpr const char *kBeginsAgain = "the same command begins again, at the newest checkpoint if there is one",
                     *kHasNoCheckpoint = "there is no checkpoint yet; the same command begins again",
                     *kResumesFromLast = "the same command resumes from the last checkpoint";

struct TrainedModel {
    std::unique_ptr<Weights> weights;
    std::unique_ptr<Model> model;
    ModelContent base;
};

Machine make_machine(WatchedGroup& watched, const Resources& resources, const FittedStep& step) {
    return Machine(watched, resources, parallel::agreed(watched.group, [&] {
                       return make_device(resources.choice, resources.threads, step.arena_bytes, step.pinned_bytes);
                   }));
}

TrainedModel make_model(const parallel::HostGroup& group, const TrainOptions& options, const BaseModel& base,
                        const FittedStep& step, const Machine& machine) {
    WeightsOptions weights_options = step.weights;
    weights_options.data = machine.mesh.data.get();
    FilledWeights filled = make_weights(group, *machine.device, base, weights_options, step.stage, options.seed);
    return parallel::agreed(group, [&] {
        auto model = std::make_unique<Model>(*filled.weights, pattern_of(options), options.context,
                                             machine.mesh.sequence.get(), options.offload == "activations");
        return TrainedModel{std::move(filled.weights), std::move(model), std::move(filled.model)};
    });
}

TrainerOptions trainer_options(const TrainOptions& o, const FittedStep& step, const ResumeSource& source,
                               const FolderLock& lock) {
    TrainerOptions options;
    options.run_folder = o.run_folder;
    options.schedule = {schedule_kind_of(o.schedule), o.warmup, o.steps, 0};
    options.step = step_options_of(o);
    options.checkpoint_every = o.checkpoint_every;
    options.checkpoint_minutes = o.checkpoint_minutes;
    options.keep_checkpoints = o.keep_checkpoints;
    options.read_back = read_back_of(o.verify_checkpoints, "--verify-checkpoints");
    options.max_snapshot_bytes = step.snapshot_bytes;
    options.planned_arena_bytes = step.plan.arena_bytes;
    options.stop_after_seconds = o.stop_after.empty() ? 0 : parse_seconds(o.stop_after, "--stop-after");
    options.resumed_from = source.checkpoint;
    options.writer = lock.token;
    return options;
}

/// Connects the loop with the stop signals, the watchdog and the lock.
TrainerHooks hooks_of(WatchedGroup& watched, const FolderLock& lock) {
    TrainerHooks hooks;
    hooks.stop_requested = [&watched] {
        if (stop_signal_came()) watched.watchdog.stopping();
        return stop_signal_came();
    };
    hooks.note_work = [&watched] { watched.note_work(); };
    hooks.step_done = [&watched](std::int64_t step) {
        watched.note_work();
        watched.watchdog.finished(step);
    };
    hooks.checkpoint_saved = [&watched] { watched.watchdog.set_way_out(kResumesFromLast); };
    hooks.require_ours = [&lock] { lock.require_held(); };
    return hooks;
}

TrainOutcome run_loop(const TrainerParts& parts, const TrainerOptions& options, std::int64_t first_step) {
    LiveLine line;
    const TrainerMessages messages{[&](const StepReport& r) { line.update(live_text(r)); },
                                   [&](const std::string& s) { line.print(s); }};
    return run_training(parts, options, first_step, messages);
}

/// From checked options to the end of the training.
ExitCode train(WatchedGroup& watched, const TrainOptions& options, parallel::MeshShape shape,
               const Arguments& arguments) {
    const parallel::HostGroup& group = watched.group;
    watched.enter("choosing devices");
    const DeviceChoice first_choice = choose_device(group, options.device);
    watched.enter("taking the run folder");
    std::optional<FolderLock> lock = lock_existing_folder(watched, options);
    watched.enter("reading the model and the data");
    Inputs inputs = open_inputs(group, options);
    const DeviceChoice choice = choose_for_heads(first_choice, options.device, inputs.base.config.head_dim);
    watched.enter("looking for a checkpoint");
    const ResumeSource source = find_resume_source(watched, options);
    watched.watchdog.set_way_out(source.checkpoint.empty() ? kHasNoCheckpoint : kResumesFromLast);

    watched.enter("measuring the memory of the devices");
    const Resources resources = find_resources(watched, options, choice, shape);
    watched.enter("planning the step");
    const FittedStep step = fit_step(watched, options, inputs.base, resources, source.checkpoint);
    watched.enter("connecting the devices");
    Machine machine = make_machine(watched, resources, step);
    watched.enter("loading the model");
    const TrainedModel trained = make_model(group, options, inputs.base, step, machine);
    const RunRecord record = run_record(options, inputs, trained.base, step,
                                        environment_of(group, *machine.device, resources.threads, arguments));
    introduce(group, options, inputs, step, machine);
    const std::int64_t first_step =
        load_resume_source(group, options, inputs, trained.base, source, record, *trained.weights);
    close_model_files(inputs);

    watched.enter("preparing the run folder");
    if (!lock) lock = lock_new_folder(watched, options);
    begin_in_folder(watched, options, *lock, source, first_step,
                    manifest_of(record, options, inputs, trained.base, step, shape));
    Recorder& recorder = machine.device->recorder();
    recorder.time = options.profile.on;
    watched.enter("training");
    Json attributes = record.attributes;
    attributes["starts"] = with_start(source.starts, lock->token, first_step);
    const TrainOutcome outcome = run_loop(
        {group, machine.mesh, *trained.model, *inputs.order, step.activations, attributes, hooks_of(watched, *lock)},
        trainer_options(options, step, source, *lock), first_step);
    if (options.profile.on) print_profile(recorder, group.rank() == 0);
    if (outcome.step >= first_step) say(group, memory_note(options, step, machine.device->memory().high_water_bytes()));
    tell_outcome(group, options, outcome);
    return outcome.code;
}

}  // namespace

int train_command(const Arguments& arguments, const parallel::HostGroup& ranks) {
    const char* description = "Extends the context length of a Llama model by LongLoRA fine-tuning.";
    const auto options =
        parse_on_all_ranks<TrainOptions>(ranks, "train", description, arguments, [](TrainOptions& o) { validate(o); });
    if (!options) return 0;
    require_same_options(ranks, classes_of(*options), {"model", "init", "adapter", "data", "resume"}, {"memory"});
    if (options->device == "plan") return report_plan(*options, ranks);
    const parallel::MeshShape shape = parallel::agreed(
        ranks, [&] { return parallel::mesh_shape_of(ranks.size(), options->pipeline, options->sequence); });
    WatchedGroup watched(ranks, options->timeout, kBeginsAgain);
    return static_cast<int>(train(watched, *options, shape, arguments));
}

}  // namespace longlora
