// `longlora evaluate`: the story of an evaluation. Each step returns a value that later steps need: inputs, machine,
// weights and their hashes. Then every context length is measured, and the table and the protocol are printed.
#include <algorithm>

#include "jobs/command_line/parse.h"
#include "jobs/command_line/progress.h"
#include "jobs/command_line/same_options.h"
#include "jobs/command_line/say.h"
#include "jobs/command_line/tokenizer_note.h"
#include "jobs/evaluate/memory.h"
#include "jobs/evaluate/report.h"
#include "jobs/process/output.h"
#include "jobs/process/signals.h"
#include "jobs/process/threads.h"
#include "model/vocabulary_growth.h"

namespace longlora {
namespace {

/// Rank 0 locks the result's file now, since hours later would be too late to refuse it. Null on other ranks and
/// without --json. Collective.
std::unique_ptr<Output> take_output(WatchedGroup& watched, const EvaluateOptions& o) {
    std::vector<std::string> inputs{o.model, o.adapter, o.checkpoint};
    inputs.insert(inputs.end(), o.data.begin(), o.data.end());
    return parallel::agreed(watched.group, [&] {
        if (watched.group.rank() != 0) return std::unique_ptr<Output>();
        return optional_output(o.json, json_output("a result of evaluate", {{"protocol", "results"}}), inputs,
                               [&watched] { watched.note_work(); });
    });
}

std::string decided_dtype(const parallel::HostGroup& group, const std::string& option, const DeviceChoice& choice) {
    if (option != "auto") return option;
    return group.all(good_at_bfloat16(choice)) ? "bfloat16" : "float32";
}

/// Without a communicator.
WeightsOptions weights_options_for(const EvaluateOptions& options, const ModelSource& source,
                                   const std::string& dtype) {
    WeightsOptions weights_options = weights_options_of(source, dtype == "bfloat16" ? DType::bfloat16 : DType::float32);
    weights_options.zero = static_cast<int>(options.zero);
    return weights_options;
}

/// The arena of a GPU is allocated at once, so it has the size that the windows need and no more. Collective.
Machine make_machine(WatchedGroup& watched, const EvaluationInputs& inputs,
                     const std::vector<Measurement>& measurements, const WeightsOptions& weights_options,
                     const Resources& resources) {
    constexpr std::int64_t kLoading = std::int64_t{64} << 20;  // pinned memory through which weights are loaded
    return Machine(
        watched, resources, parallel::agreed(watched.group, [&] {
            const WindowMemory needed = plan_windows(inputs, measurements, weights_options, resources,
                                                     watched.group.rank(), [&watched] { watched.note_work(); });
            const bool is_gpu = resources.choice.kind == DeviceKind::cuda;
            return make_device(resources.choice, resources.threads,
                               is_gpu ? needed.arena_bytes : resources.memory_bytes, needed.pinned_bytes + kLoading);
        }));
}

/// Loads the weights and closes their files. Collective.
LoadedWeights make_weights(const parallel::HostGroup& group, EvaluationInputs& inputs, WeightsOptions weights_options,
                           const Machine& machine) {
    weights_options.data = machine.mesh.data.get();
    LoadedWeights loaded = load_weights(group, *machine.device, inputs.source, weights_options, inputs.stage);
    inputs.source.files.reset();
    return loaded;
}

std::string windows_text(std::int64_t windows) { return text(windows, " windows"); }

/// Rank 0 shows the progress of all: data coordinates have the same number of windows, within one.
Result measure(const parallel::HostGroup& group, Machine& machine, Weights& weights, const TokenFiles& files,
               const Measurement& m, const WindowList& list) {
    const std::int64_t windows = list.windows.size();
    Progress progress(text("context ", m.rules.context), windows, windows_text, group.rank() == 0);
    const auto between = [&](std::int64_t done) {
        if (stop_signal_came())
            fail("stopped as asked before the evaluation was complete; nothing is written", ExitCode::stopped);
        progress.update(std::min(windows, done * machine.mesh.shape.data));
    };
    return {m, list, measure_perplexity(group, machine.mesh, weights, m.pattern, files, m.rules, list, between)};
}

/// output: of rank 0; may be null.
void report(const parallel::HostGroup& group, const Protocol& protocol, const std::vector<Result>& results,
            const Output* output) {
    for (const auto& file : protocol.files)
        if (const std::string note = group.rank() == 0 ? tokenizer_note(protocol.source.model_path, *file) : "";
            !note.empty())
            say(group, note + "\n");
    say(group, context_warnings(protocol.source.config, results) + "\n" + protocol_text(protocol, results));
    parallel::agree(group, [&] {
        if (output)
            output->write_text(to_json(protocol, results).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    });
}

/// From checked options to the report.
void evaluate(WatchedGroup& watched, const EvaluateOptions& options, const std::vector<Measurement>& measurements,
              parallel::MeshShape shape) {
    const parallel::HostGroup& group = watched.group;
    watched.enter("choosing devices");
    const DeviceChoice first_choice = choose_device(group, options.device);
    const std::unique_ptr<Output> output = take_output(watched, options);
    watched.enter("reading the model and the data");
    EvaluationInputs inputs = open_evaluation_inputs(group, options, measurements, shape);
    const DeviceChoice choice = choose_for_heads(first_choice, options.device, inputs.source.config.head_dim);
    say(group, choice.note);
    say(group, growth_text(inputs.source.config));

    const int threads = threads_per_rank(group);
    const std::string dtype = decided_dtype(group, options.dtype, choice);
    const WeightsOptions weights_options = weights_options_for(options, inputs.source, dtype);
    const Resources resources{
        choice, shape, threads,
        device_memory_limit(group, choice, options.memory, shape, communicator_options_of(watched))};
    watched.enter("planning the memory of the windows");
    Machine machine = make_machine(watched, inputs, measurements, weights_options, resources);
    watched.enter("loading the model");
    const LoadedWeights loaded = make_weights(group, inputs, weights_options, machine);

    watched.enter("evaluating");
    std::vector<Result> results;
    say(group, table_header());
    for (std::size_t i = 0; i < measurements.size(); ++i) {
        results.push_back(measure(group, machine, *loaded.weights, inputs.files, measurements[i], inputs.lists[i]));
        say(group, table_row(results.back()));
    }
    const std::string device = machine.device->description();
    report(
        group,
        {options, inputs.source, inputs.files, loaded.model_hash, loaded.adapter_hash, dtype, device, shape, threads},
        results, output.get());
}

}  // namespace

int evaluate_command(const Arguments& arguments, const parallel::HostGroup& ranks) {
    std::vector<Measurement> measurements;
    const char* description =
        "Perplexity of a model, an adapter or a checkpoint by context length, with the protocol it was measured by.";
    const auto options = parse_on_all_ranks<EvaluateOptions>(ranks, "evaluate", description, arguments,
                                                             [&](EvaluateOptions& o) { measurements = validate(o); });
    if (!options) return 0;
    require_same_options(ranks, classes_of(*options), {"model", "adapter", "checkpoint", "data"}, {"json", "memory"});
    const parallel::MeshShape shape = parallel::agreed(
        ranks, [&] { return parallel::mesh_shape_of(ranks.size(), options->pipeline, options->sequence); });
    WatchedGroup watched(ranks, options->timeout, "start the evaluation again");
    evaluate(watched, *options, measurements, shape);
    return 0;
}

}  // namespace longlora
