// Rank 0 writes metrics and status and prints messages. All ranks agree on every decision that changes what they do.
#include "train/trainer.h"

#include <sys/resource.h>

#include <cmath>
#include <memory>

#include "core/clock.h"
#include "parallel/agree.h"

namespace longlora {
namespace {

/// The state of the loop.
struct Loop {
    const TrainerParts& parts;
    const TrainerOptions& options;
    const TrainerMessages& messages;
    CheckpointSaver saver;
    std::unique_ptr<MetricsLog> metrics;  // rank 0
    double started = now_seconds(), last_checkpoint = started, last_status = started - 1e9;
    std::string checkpoint;
    std::int64_t finished;  // steps
    bool worked = false;    // whether this loop has finished a step
    double seconds_left = -1;

    Loop(const TrainerParts& p, const TrainerOptions& o, const TrainerMessages& m, std::int64_t first_step)
        : parts(p),
          options(o),
          messages(m),
          saver(p.group, p.model.weights(), saver_options()),
          checkpoint(o.resumed_from),
          finished(first_step - 1) {
        parallel::agree(parts.group, [&] {
            if (leads()) metrics = std::make_unique<MetricsLog>(options.run_folder);
        });
    }
    bool leads() const { return parts.group.rank() == 0; }
    void say(const std::string& sentence) const {
        if (leads() && messages.sentence && !sentence.empty()) messages.sentence(sentence);
    }
    void require_ours() const {
        if (parts.hooks.require_ours) parts.hooks.require_ours();
    }
    SaverOptions saver_options() {
        SaverOptions out;
        out.run_folder = options.run_folder;
        out.keep_checkpoints = options.keep_checkpoints;
        out.read_back = options.read_back;
        out.max_snapshot_bytes = options.max_snapshot_bytes;
        out.writer = options.writer;
        // The metrics reach the disk before the checkpoint gets its name, so a resume finds the line of every step.
        out.before_rename = [this] {
            require_ours();
            if (metrics) metrics->sync();
        };
        out.note_work = parts.hooks.note_work;
        return out;
    }
    void log(const Json& line) {
        if (!leads()) return;
        require_ours();
        say(metrics->append(line));
    }
    bool is_ours() const {
        try {
            require_ours();
        } catch (const Error&) {
            return false;  // the next line of metrics ends the run
        }
        return true;
    }
    /// A status that cannot be written must not end the training.
    void status(const Json& changes) const {
        try {
            if (is_ours()) update_status(options.run_folder, changes);
        } catch (const Error& e) {
            say(e.what());
        }
    }
    void record(const std::exception& e) const {
        const bool agreed = dynamic_cast<const parallel::AgreedError*>(&e) != nullptr;
        if (agreed && !leads()) return;
        const std::string where = agreed || parts.group.size() == 1 ? "" : text(" (on rank ", parts.group.rank(), ")");
        try {
            if (is_ours())
                record_failure(options.run_folder, exit_code_of(e), sentence_of(e) + where,
                               text("rank", parts.group.rank()));
        } catch (const Error&) {
            // main() prints e on standard error anyway
        }
    }

    /// Only every few seconds, since each call writes a file to disk.
    void status_running() {
        if (!leads() || now_seconds() - last_status < 5) return;
        last_status = now_seconds();
        status({{"state", "running"},
                {"exit_code", Json()},
                {"step", finished},
                {"steps", options.schedule.steps},
                {"checkpoint", checkpoint},
                {"message", ""},
                {"seconds_left", seconds_left < 0 ? Json() : Json(seconds_left)}});
    }

    void report_saves(const std::vector<SaveReport>& reports) {
        for (const auto& r : reports) {
            if (!r.sentence.empty()) say(r.sentence);
            if (!r.saved) continue;
            checkpoint = r.path;
            if (parts.hooks.checkpoint_saved) parts.hooks.checkpoint_saved();
            say(text("checkpoint ", r.path, " (", bytes_text(r.bytes), " in ", duration_text(r.seconds), ")"));
            log({{"event", "checkpoint"},
                 {"step", r.step},
                 {"bytes", r.bytes},
                 {"most_bytes_of_a_rank", r.most_bytes_of_a_rank},
                 {"seconds", r.seconds},
                 {"stalled_seconds", r.stalled_seconds}});
        }
    }

    bool checkpoint_due(std::int64_t step) {
        if (options.checkpoint_every > 0 && step % options.checkpoint_every == 0) return true;
        const bool by_time =
            options.checkpoint_minutes > 0 && now_seconds() - last_checkpoint > 60 * options.checkpoint_minutes;
        return options.checkpoint_minutes > 0 && parts.group.any(leads() && by_time);
    }

    bool stop_due() {
        const bool out_of_time = options.stop_after_seconds > 0 && now_seconds() - started > options.stop_after_seconds;
        return parts.group.any(out_of_time || (parts.hooks.stop_requested && parts.hooks.stop_requested()));
    }

    void report_step(const StepResult& result, const ReadBatch& batch, std::int64_t first_step, double seconds,
                     double factor) {
        if (!leads()) return;
        const std::int64_t step = batch.step;
        if (batch.num_predictions == 0)
            say(text("step ", step,
                     ": no prediction is counted, since each of its tokens begins a document or its "
                     "sequence; its loss and gradient are 0"));
        const double tokens_per_step = static_cast<double>(options.step.global_batch * parts.order.context());
        const std::int64_t tokens = step * options.step.global_batch * parts.order.context();
        const double rate = (now_seconds() - started) / static_cast<double>(step - first_step + 1);
        const StepReport report{step,
                                options.schedule.steps,
                                tokens,
                                result.loss,
                                options.step.optimizer.lr * factor,
                                result.grad_norm,
                                tokens_per_step / seconds,
                                seconds,
                                rate * static_cast<double>(options.schedule.steps - step)};
        seconds_left = report.seconds_left;
        log({{"step", step},
             {"loss", report.loss},
             {"grad_norm", report.grad_norm},
             {"learning_rate", report.learning_rate},
             {"predictions", batch.num_predictions},
             {"tokens", tokens},
             {"tokens_per_second", report.tokens_per_second},
             {"seconds", seconds}});
        if (messages.step) messages.step(report);
    }

    ReadBatch read(BatchReader& reader) const {
        ReadBatch batch;
        parallel::agree(parts.group, [&] { batch = reader.next(); });
        return batch;
    }

    /// The last save, in bounded memory. Skipped if no step was done since a regular save or the resume.
    void save_now(std::int64_t step) {
        if (checkpoint == checkpoint_folder(options.run_folder) + "/" + checkpoint_name(step)) return;
        report_saves({saver.save_now(step, parts.attributes)});
    }
};

/// The largest amount of memory that the process has had, with libraries and mapped files.
std::int64_t peak_process_bytes() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return std::int64_t{usage.ru_maxrss} << 10;
}

/// Logs memory and traffic of all ranks, once, at the end.
void log_totals(Loop& loop, std::int64_t step) {
    const auto& memory = loop.parts.model.device().memory();
    Json traffic = Json::object();
    for (const auto& [axis, sent] : loop.parts.mesh.traffic())
        traffic[axis] = {{"bytes", sent.bytes}, {"messages", sent.messages}};
    const Json mine{{"arena_high_water_bytes", memory.high_water_bytes()},
                    {"arena_planned_bytes", loop.options.planned_arena_bytes},
                    {"process_peak_bytes", peak_process_bytes()},
                    {"traffic", traffic}};
    Json ranks = Json::array();
    for (const auto& rank : loop.parts.group.all_gather(mine.dump())) ranks.push_back(Json::parse(rank));
    loop.log({{"event", "end"}, {"step", step}, {"ranks", ranks}});
}

TrainOutcome end(Loop& loop, TrainOutcome outcome) {
    loop.report_saves(loop.saver.finish());
    loop.save_now(outcome.step);
    if (loop.worked) log_totals(loop, outcome.step);
    outcome.checkpoint = loop.checkpoint;
    const char* state = outcome.code == ExitCode::done      ? "done"
                        : outcome.code == ExitCode::stopped ? "stopped"
                                                            : "failed";
    if (loop.leads())
        loop.status({{"state", state},
                     {"exit_code", static_cast<int>(outcome.code)},
                     {"step", outcome.step},
                     {"steps", loop.options.schedule.steps},
                     {"checkpoint", loop.checkpoint},
                     {"message", outcome.sentence},
                     {"seconds_left", outcome.code == ExitCode::done ? Json(0)
                                      : loop.seconds_left < 0        ? Json()
                                                                     : Json(loop.seconds_left)}});
    return outcome;
}

TrainOutcome run_steps(Loop& loop, std::int64_t first_step) {
    const TrainerParts& parts = loop.parts;
    const TrainerOptions& options = loop.options;
    const auto share = parallel::even_share_of(options.step.global_batch, parts.mesh.at.data, parts.mesh.shape.data);
    BatchReader reader(parts.order,
                       {options.step.global_batch, share, parts.model.own_tokens(), options.step.document_mask},
                       first_step, options.schedule.steps);
    const StepScalars scalars(parts.model.device());
    for (std::int64_t step = first_step; step <= options.schedule.steps; ++step) {
        if (loop.stop_due())
            return end(loop, {ExitCode::stopped, step - 1, "", text("stopped after step ", step - 1, " as asked")});
        loop.status_running();
        const double begin = now_seconds();
        ReadBatch batch;
        try {
            batch = loop.read(reader);
        } catch (const parallel::AgreedError& e) {  // on all ranks, between two steps: save what was trained
            if (!loop.worked) throw;
            return end(loop, {e.code, step - 1, "", text("the data of step ", step, " cannot be read: ", e.what())});
        }
        const double factor = schedule_factor(options.schedule, step);
        const StepResult result =
            train_step(parts.model, parts.mesh, scalars, batch, options.step, parts.activations, step, factor);
        if (!result.finite)
            return end(loop, {ExitCode::non_finite, step - 1, "",
                              text("step ", step, ": the ", std::isfinite(result.loss) ? "gradient norm" : "loss",
                                   " is not finite; nothing was updated and the state "
                                   "before this step is saved; lower --lr or look at the data of this step")});
        loop.finished = step;
        loop.worked = true;
        loop.report_step(result, batch, first_step, now_seconds() - begin, factor);
        if (parts.hooks.step_done) parts.hooks.step_done(step);
        loop.report_saves(loop.saver.poll());
        if (step < options.schedule.steps && loop.checkpoint_due(step)) {
            loop.last_checkpoint = now_seconds();
            loop.saver.begin_save(step, parts.attributes);
        }
    }
    return end(loop, {ExitCode::done, std::max(options.schedule.steps, first_step - 1), "", ""});
}

}  // namespace

TrainOutcome run_training(const TrainerParts& parts, const TrainerOptions& options, std::int64_t first_step,
                          const TrainerMessages& messages) {
    Loop loop(parts, options, messages, first_step);
    try {
        return run_steps(loop, first_step);
    } catch (const std::exception& e) {  // perhaps on this rank alone, so it is only recorded
        loop.record(e);
        throw;
    }
}

}  // namespace longlora
