// Wrong input is found before the folder is touched: what cannot be trained leaves nothing behind.
#include "jobs/train/run_start.h"

#include <functional>

#include "core/host.h"
#include "jobs/command_line/units.h"
#include "jobs/process/slurm_job.h"
#include "jobs/train/resume_check.h"
#include "parallel/agree.h"
#include "run/folder.h"
#include "train/checkpoint.h"

namespace longlora {
namespace {

void take_lock(Run& run) {
    parallel::agree(run.group, [&] {
        if (!run.leads()) return;
        RunLockOptions options;
        options.job = job_of_environment();
        options.timeout_seconds = parse_seconds(run.options.lock_timeout, "--lock-timeout");
        options.has_ended = [mine = options.job](const LockHolder& holder) { return slurm_says_ended(holder, mine); };
        options.waiting = [&run] { run.note_work(); };
        options.say = [&run](const std::string& sentence) { run.say(sentence); };
        run.lock = std::make_unique<RunLock>(run.options.run_folder, options);
    });
    run.token = run.group.broadcast(run.leads() ? run.lock->token() : "");
}

/// Options by class, and as identity also what the model's configuration says: weights are known by their content, this
/// is the rest of what decides the computation.
OptionClasses with_computation(OptionClasses options, const ModelConfig& config) {
    options.identity.update(computation_of(config));
    return options;
}

/// What differs from the first start in the model's files, as an addition to a sentence; rank 0 knows.
std::string weights_difference(const Run& run) {
    if (!run.leads() || !run.base.files) return "";
    const TensorChecksums was = recorded_checksums(run.options.run_folder);
    const std::string difference = was.empty() ? "" : first_difference(*run.base.files, was, run.base_checksums);
    return difference.empty() ? "" : "; of the model's weights " + difference;
}

PermittedChanges check_checkpoint(const Run& run, const Json& attributes) {
    const std::string& path = run.resume_from;
    const ModelConfig config = parse_config(nlohmann::ordered_json(member(attributes, "model_config", path)), path);
    try {
        return check_options(with_computation(option_classes_of(member(attributes, "options", path), path), config),
                             with_computation(option_classes(run), run.base.config), run.options.allow_change, path);
    } catch (const Error& e) {
        fail(e.what() + weights_difference(run), e.code);
    }
}

/// Rank 0 changes the run folder, which still is this job's; all ranks hear of its Error.
void change_folder(const Run& run, const std::function<void()>& change) {
    parallel::agree(run.group, [&] {
        if (!run.leads()) return;
        run.lock->require_held();
        change();
    });
}

/// Later checkpoints and metrics of a course that is given up are set aside.
void set_aside_after(const Run& run, std::int64_t step) {
    std::int64_t lines = 0;
    change_folder(run, [&] {
        for (const auto& note : set_damaged_aside(run.found)) run.say(note);
        if (!run.found.damaged.empty()) run.say("going on from " + run.resume_from);
        discard_checkpoints_after(run.options.run_folder, step);
        lines = discard_metrics_after(run.options.run_folder, step);
    });
    if (lines > 0)
        run.say(text(lines, " lines of metrics after step ", step,
                     " moved to metrics.discarded.jsonl; later checkpoints, if any, are kept as *.discarded"));
}

void write_run_manifest(const Run& run) {
    Json manifest = run.attributes;
    manifest["keep"] = to_text(run.activations, run.stage);
    const ParameterList list = list_parameters(run.base.config, run.base.trainables);
    manifest["parameters"] = {{"total", list.total_elements()}, {"trainable", list.trainable_elements()}};
    manifest["mesh"] = {{"pipeline", run.mesh.shape.pipeline},
                        {"data", run.mesh.shape.data},
                        {"sequence", run.mesh.shape.sequence},
                        {"zero", run.options.zero}};
    Json data = Json::array();
    for (std::int64_t i = 0; i < run.order->num_sources(); ++i)
        data.push_back({{"path", run.order->file(i).path()},
                        {"hash", run.order->file(i).content_hash()},
                        {"tokens", run.order->file(i).num_tokens()}});
    manifest["data"] = data;
    manifest["model_tensors"] = run.base_checksums;  // those of the first start: no other model gets so far
    const JobIdentity job = job_of_environment();
    manifest["job"] = {{"cluster", job.cluster}, {"id", job.id}, {"restart", job.restart}};
    change_folder(run, [&] { write_manifest(run.options.run_folder, manifest); });
}

void write_first_status(const Run& run, std::int64_t first_step) {
    change_folder(run, [&] {
        const JobIdentity job = job_of_environment();
        const Json before = read_status(run.options.run_folder);
        const Json starts = before.contains("starts") ? before["starts"] : Json();
        update_status(run.options.run_folder,
                      {{"state", "running"},
                       {"exit_code", Json()},
                       {"step", first_step - 1},
                       {"steps", run.options.steps},
                       {"checkpoint", run.resume_from},
                       {"message", ""},
                       {"seconds_left", Json()},
                       {"starts", 1 + (starts.is_number_integer() ? starts.get<std::int64_t>() : 0)},
                       {"started", utc_now()},
                       {"ranks", run.group.size()},
                       {"host", host_name()},
                       {"job", job.id},
                       {"restart", job.restart}});
    });
}

}  // namespace

OptionClasses option_classes(const Run& run) {
    OptionClasses classes = classes_of(run.options);
    classes.identity["model-content"] = run.base.hash;
    classes.identity["data-content"] = run.order->content_hash();
    return classes;
}

void lock_existing_folder(Run& run) {
    bool there = false;
    parallel::agree(run.group, [&] { there = run.leads() && is_folder(run.options.run_folder); });
    if (run.group.any(there)) take_lock(run);
}

void find_resume_source(Run& run) {
    const auto& o = run.options;
    std::string path;
    parallel::agree(run.group, [&] {
        if (!run.leads()) return;
        if (o.resume == "never") {
            require(list_checkpoints(o.run_folder).empty(), "the run folder ", o.run_folder,
                    " has checkpoints already; take --resume auto to go on from them, or another --run");
            return;
        }
        run.found = find_resumable(o.run_folder, [&run] { run.note_work(); });
        path = run.found.path;
        if (o.resume == "auto") return require_some_whole(o.run_folder, run.found);
        // A requeued job gives the same command: once it has saved a checkpoint of its own, it goes on from that one,
        // not from FILE again.
        require(!is_folder(o.resume), "--resume ", o.resume,
                " is a folder; name one of its files checkpoints/step-*.h5, or go on in it with --run ", o.resume);
        if (path.empty() || read_checkpoint_attributes(path)["options"]["free"].value("resume", "") != o.resume)
            path = o.resume;
    });
    run.resume_from = run.group.broadcast(path);
}

std::int64_t load_resume_source(Run& run) {
    const std::string& path = run.resume_from;
    if (path.empty()) return 1;
    Json attributes;
    PermittedChanges changes;
    parallel::agree(run.group, [&] {
        attributes = read_checkpoint_attributes(path);
        changes = check_checkpoint(run, attributes);
        load_checkpoint(*run.weights, path);
    });
    const std::int64_t step = attributes["step"].get<std::int64_t>();
    run.say(text("resuming from ", path, " after step ", step));
    if (!changes.schedule.empty()) run.say(text("changed since then: ", changes_text(changes.schedule)));
    const std::vector<OptionChange> rounding =
        rounding_changes(attributes.value("environment", Json::object()), run.attributes["environment"], changes.free);
    if (!rounding.empty())
        run.say(text("results agree with those of the checkpoint's run within rounding, not bit for bit: ",
                     changes_text(rounding)));
    return step + 1;
}

void begin_in_folder(Run& run, std::int64_t first_step) {
    if (run.token.empty()) {
        parallel::agree(run.group, [&] {
            if (run.leads()) create_folders(run.options.run_folder);
        });
        take_lock(run);
        parallel::agree(run.group, [&] {
            if (run.leads())
                require(list_checkpoints(run.options.run_folder).empty(), "another job has trained in ",
                        run.options.run_folder, " since this one looked; start this one again, or take another --run");
        });
    }
    change_folder(run, [&] {
        create_run_folder(run.options.run_folder);
        remove_partials(run.options.run_folder);
        if (run.resume_from.empty() && file_exists(run.options.run_folder + "/metrics.jsonl"))
            run.say(text(run.options.run_folder, " has no checkpoint to go on from; starting at step 1"));
    });
    set_aside_after(run, first_step - 1);
    if (first_step <= run.options.steps) write_run_manifest(run);  // else the record of who did the steps stays
    write_first_status(run, first_step);
    const std::string folder = run.options.run_folder, token = run.token;
    run.watched.watchdog.watch_run(
        folder, token, [folder, token, rank = run.group.rank()](const std::string& sentence) {
            if (is_lock_of(folder, token))
                record_failure(folder, ExitCode::communication, sentence, text("watchdog", rank));
        });
}

}  // namespace longlora
