// `longlora evaluate`: opens model and texts, all ranks agreeing on each, measures every context length, prints the
// table and its protocol.
#include <algorithm>
#include <cstdio>

#include "eval/window_rounds.h"
#include "io/file.h"
#include "jobs/command_line/parse.h"
#include "jobs/command_line/progress.h"
#include "jobs/command_line/same_options.h"
#include "jobs/command_line/tokenizer_note.h"
#include "jobs/evaluate/report.h"
#include "jobs/process/device_choice.h"
#include "jobs/process/signals.h"
#include "jobs/process/threads.h"
#include "jobs/process/watched_group.h"
#include "parallel/agree.h"

namespace longlora {
namespace {

/// Everything that lives as long as the command.
struct Evaluation {
    const EvaluateOptions options;
    const std::vector<Measurement> measurements;
    WatchedGroup watched;
    const parallel::HostGroup& group;  // that of `watched`
    ModelSource source;
    TokenFiles files;
    std::vector<WindowList> lists;  // one per measurement
    std::string model_hash, adapter_hash, dtype;
    Stage stage;
    parallel::MeshShape shape;
    DeviceChoice choice;
    std::unique_ptr<Device> device;
    parallel::MeshCommunicators mesh;
    std::unique_ptr<Weights> weights;
    int threads = 1;
    Evaluation(const EvaluateOptions& o, const std::vector<Measurement>& m, const parallel::HostGroup& ranks)
        : options(o),
          measurements(m),
          watched(ranks, o.timeout, "start the evaluation again"),
          group(watched.group) {}
    bool leads() const { return group.rank() == 0; }
    void say(const std::string& words) const {
        if (leads() && !words.empty()) std::printf("%s\n", words.c_str()), std::fflush(stdout);
    }
};

/// Tries the place of the result now: hours later would be too late. Leaves nothing behind.
void check_writable(const std::string& path) {
    require(!is_folder(path), "--json ", path, " is a folder; name a file in it");
    const std::string probe = path + ".partial";
    FileHandle::create(probe);
    remove_file(probe);
}

void open_files(Evaluation& e) {
    for (const auto& path : e.options.data) {
        e.files.push_back(std::make_shared<const TokenFile>(path));
        require(e.files.back()->vocabulary() <= e.source.config.vocabulary, path, " has a vocabulary of ",
                e.files.back()->vocabulary(), " ids but the model only ", e.source.config.vocabulary,
                "; prepare the data with the model's own tokenizer");
    }
    for (const Measurement& m : e.measurements) e.lists.push_back(list_windows(e.files, m.rules));
}

/// This rank's layers; those of all contexts, so dealt by the costs of the longest.
Stage stage_of(const Evaluation& e) {
    const auto longest =
        std::max_element(e.measurements.begin(), e.measurements.end(),
                         [](const Measurement& a, const Measurement& b) { return a.rules.context < b.rules.context; });
    const auto stages = stages_of(e.source.config, e.shape.pipeline, longest->pattern, longest->rules.context);
    return stages[static_cast<std::size_t>(parallel::coordinate_of(e.shape, e.group.rank()).pipeline)];
}

void open_inputs(Evaluation& e) {
    parallel::agree(e.group, [&] {
        if (e.leads() && !e.options.json.empty()) check_writable(e.options.json);
    });
    parallel::agree(e.group, [&] {
        e.source = open_model_source(e.options.places(), e.options.rope_request());
        e.stage = stage_of(e);
        open_files(e);
    });
    std::string contents;
    for (const auto& file : e.files) contents += file->content_hash() + "\n";
    require_same_content(e.group, "the token files", contents);
    require_same_content(e.group, "config.json", e.source.config.raw.dump());
    e.choice = choose_for_heads(e.choice, e.options.device, e.source.config.head_dim);
    e.say(e.choice.note);
    parallel::agree(e.group, [&] {
        if (!e.leads()) return;
        e.model_hash = base_model_hash(e.source, [&e] { e.watched.note_work(); });
        e.adapter_hash = longlora::adapter_hash(e.source);
    });
}

struct Needed {
    std::int64_t arena_bytes = 0, pinned_bytes = 0;
};

/// Windows of each kind through this rank's part of the mesh on a device that only counts memory: what does not fit in
/// `limit` is said before anything is computed.
Needed plan_memory(const Evaluation& e, WeightsOptions weights_options, std::int64_t limit) {
    DeviceOptions options;
    options.memory_bytes = limit;
    if (e.choice.kind == DeviceKind::cuda) options.own_bytes = cuda_own_bytes();
    const auto plan = make_plan_device(options);
    auto mesh = parallel::make_plan_mesh(*plan, e.shape, e.group.rank());
    weights_options.data = mesh.data.get();
    Weights weights(*plan, e.source.config, e.source.trainables, weights_options, e.stage);
    for (const Measurement& m : e.measurements) {
        Model model(weights, m.pattern, m.rules.context, mesh.sequence.get());
        const std::vector<std::int32_t> any(static_cast<std::size_t>(m.rules.context));
        window_losses(model, mesh, {2, 2}, [&](std::int64_t i) {
            return i < 0 ? WindowTokens{} : window_tokens(any, 1, model.own_tokens());
        });
    }
    return {plan->memory().high_water_bytes(), plan->pinned().high_water_bytes()};
}

/// The device that plan_memory found large enough; a GPU's memory is allocated at once, so there it is as large and not
/// larger.
void make_device_and_mesh(Evaluation& e, const WeightsOptions& weights_options) {
    constexpr std::int64_t kLoading = std::int64_t{64} << 20;  // pinned memory for weights on their way
    parallel::CommunicatorOptions communicator_options;
    communicator_options.while_waiting = [&e] { e.watched.note_waiting(); };
    const std::int64_t limit = device_memory_limit(e.group, e.choice, e.options.memory, e.shape, communicator_options);
    parallel::agree(e.group, [&] {
        const Needed needed = plan_memory(e, weights_options, limit);
        e.device = make_device(e.choice, e.threads, e.choice.kind == DeviceKind::cuda ? needed.arena_bytes : limit,
                               needed.pinned_bytes + kLoading);
    });
    e.mesh = parallel::make_mesh(*e.device, e.group.handle(), e.shape, communicator_options);
    e.device->set_progress([&e] {
        e.mesh.progress();
        e.watched.note_work();
    });
    e.device->set_waiting([&e] {
        e.mesh.progress();
        e.watched.note_waiting();
    });
}

void open_device(Evaluation& e) {
    e.threads = threads_per_rank(e.group);
    e.dtype = e.options.dtype;
    if (e.dtype == "auto") e.dtype = e.group.all(good_at_bfloat16(e.choice)) ? "bfloat16" : "float32";
    WeightsOptions weights_options =
        weights_options_of(e.source, e.dtype == "bfloat16" ? DType::bfloat16 : DType::float32);
    weights_options.zero = static_cast<int>(e.options.zero);
    make_device_and_mesh(e, weights_options);
    weights_options.data = e.mesh.data.get();
    parallel::agree(e.group, [&] {
        e.weights = load_weights(*e.device, e.source, weights_options, e.stage);
        e.source.files.reset();  // mapped files whose values are copied
    });
}

std::string windows_text(std::int64_t windows) { return text(windows, " windows"); }

/// Rank 0 speaks for all: data coordinates have the same number of windows, within one.
Result measure(Evaluation& e, std::size_t i) {
    const Measurement& m = e.measurements[i];
    const auto windows = static_cast<std::int64_t>(e.lists[i].windows.size());
    Progress progress(text("context ", m.rules.context), windows, windows_text, e.leads());
    const auto between = [&](std::int64_t done) {
        if (stop_signal_came())
            fail("stopped as asked before the evaluation was complete; nothing is written", ExitCode::stopped);
        progress.update(std::min(windows, done * e.mesh.shape.data));
    };
    return {m, e.lists[i],
            measure_perplexity(e.group, e.mesh, *e.weights, m.pattern, e.files, m.rules, e.lists[i], between)};
}

std::vector<Result> measure_all(Evaluation& e) {
    std::vector<Result> results;
    e.say(table_header());
    for (std::size_t i = 0; i < e.measurements.size(); ++i) {
        results.push_back(measure(e, i));
        e.say(table_row(results.back()));
    }
    return results;
}

void report(Evaluation& e, const std::vector<Result>& results) {
    const Protocol protocol{
        e.options,    e.source, e.files, e.model_hash, e.adapter_hash, e.dtype, e.device->description(),
        e.mesh.shape, e.threads};
    for (const auto& file : e.files)
        if (const std::string note = e.leads() ? tokenizer_note(e.source.model_path, *file) : ""; !note.empty())
            e.say(note + "\n");
    e.say(beyond_notes(e.source.config, results) + "\n" + in_words(protocol, results));
    parallel::agree(e.group, [&] {
        if (e.leads() && !e.options.json.empty())
            write_text_file(e.options.json,
                            to_json(protocol, results).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    });
}

}  // namespace

int evaluate_command(const Arguments& arguments, const parallel::HostGroup& ranks) {
    std::vector<Measurement> measurements;
    const char* description =
        "Perplexity of a model, an adapter or a checkpoint by context length, with the protocol it was measured by.";
    const auto parsed = parse_on_all_ranks<EvaluateOptions>(ranks, "evaluate", description, arguments,
                                                            [&](EvaluateOptions& o) { measurements = validate(o); });
    if (!parsed) return 0;
    const EvaluateOptions& options = *parsed;
    require_same_options(ranks, classes_of(options), {"model", "adapter", "checkpoint", "data", "json", "memory"});
    parallel::MeshShape shape;
    parallel::agree(ranks, [&] { shape = parallel::mesh_shape_of(ranks.size(), options.pipeline, options.sequence); });
    Evaluation e(options, measurements, ranks);
    e.shape = shape;
    e.choice = choose_device(e.group, options.device);
    open_inputs(e);
    open_device(e);
    report(e, measure_all(e));
    return 0;
}

}  // namespace longlora
