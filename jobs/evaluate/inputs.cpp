// Every rank opens all files; rank 0 decides which checkpoint of a run is the newest. Only rank 0 hashes the weights,
// since only rank 0 reports.
#include "jobs/evaluate/inputs.h"

#include <algorithm>

#include "jobs/command_line/same_checkpoint.h"
#include "jobs/command_line/same_options.h"
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

std::string contents_of(const TokenFiles& files) {
    std::string contents;
    for (const auto& file : files) contents += file->content_hash() + "\n";
    return contents;
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
    require_same_content(group, "the token files", contents_of(inputs.files));
    require_same_content(group, "config.json", inputs.source.config.raw.dump());
    require_same_content(group, "the adapter", adapter_hash(inputs.source));
    return inputs;
}

ModelHashes hash_model(WatchedGroup& watched, const ModelSource& source) {
    const parallel::HostGroup& group = watched.group;
    return parallel::agreed(group, [&] {
        if (group.rank() != 0) return ModelHashes{};
        const std::string base_model = base_model_hash(source, [&watched] { watched.note_work(); });
        return ModelHashes{base_model, adapter_hash(source)};
    });
}

}  // namespace longlora
