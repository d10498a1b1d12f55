// Every rank opens all files; rank 0 decides which checkpoint of a run is the newest. What is small is compared here.
#include "jobs/evaluate/inputs.h"

#include <algorithm>

#include "jobs/command_line/same_checkpoint.h"
#include "jobs/command_line/same_options.h"
#include "model/parameters_json.h"
#include "parallel/agree.h"

namespace longlora {
namespace {

TokenFiles open_files(const std::vector<std::string>& paths, const ModelConfig& config) {
    TokenFiles files;
    for (const auto& path : paths) {
        files.push_back(std::make_shared<const TokenFile>(path));
        require(files.back()->vocabulary() <= config.vocabulary, path, " has a vocabulary of ",
                files.back()->vocabulary(), " ids, but the model has only ", config.vocabulary,
                "; prepare the data with the model's own tokenizer");
    }
    return files;
}

/// The layers of this rank, the same for all contexts. The costs of the longest context decide how the layers are
/// divided into stages.
Stage stage_of(const ModelConfig& config, const std::vector<Measurement>& measurements, parallel::MeshShape shape,
               int rank) {
    const auto longest =
        std::max_element(measurements.begin(), measurements.end(),
                         [](const Measurement& a, const Measurement& b) { return a.rules.context < b.rules.context; });
    const auto stages = stages_of(config, shape.pipeline, longest->pattern, longest->rules.context);
    return stages[parallel::coordinate_of(shape, rank).pipeline];
}

}  // namespace

EvaluationInputs open_evaluation_inputs(const parallel::HostGroup& group, const EvaluateOptions& options,
                                        const std::vector<Measurement>& measurements, parallel::MeshShape shape) {
    ModelPaths places = options.places();
    if (!places.checkpoint.empty()) places.checkpoint = newest_checkpoint_on_all_ranks(group, places.checkpoint);
    EvaluationInputs inputs = parallel::agreed(group, [&] {
        ModelSource source = open_model_source(places, options.rope_request());
        const Stage stage = stage_of(source.config, measurements, shape, group.rank());
        TokenFiles files = open_files(options.data, source.config);
        std::vector<WindowList> lists;
        for (const Measurement& m : measurements) lists.push_back(list_windows(files, m.rules));
        return EvaluationInputs{std::move(source), stage, std::move(files), std::move(lists)};
    });
    require_same_content(group, "--data (the number of its files)", text(inputs.files.size()));
    for (const auto& file : inputs.files) require_same_content(group, file->path(), file->content_hash());
    const std::string and_adapter = options.adapter.empty() ? "" : text(" and in ", options.adapter);
    require_same_content(group, text("config.json in ", inputs.source.model_path, and_adapter),
                         inputs.source.config.raw.dump());
    require_same_content(group, text("adapter_config.json in ", options.adapter),
                         inputs.source.adapter ? to_line(to_json(inputs.source.trainables)) : "");
    return inputs;
}

}  // namespace longlora
