// Paths are recorded as they were given, except that of the base model: it must be found again from another folder.
#include "jobs/train/manifest.h"

#include <filesystem>

#include "jobs/process/slurm_job.h"
#include "model/parameters_json.h"

namespace longlora {
namespace {

OptionClasses options_of(const TrainOptions& options, const Inputs& inputs, const FittedStep& step) {
    OptionClasses classes = classes_of(options);
    classes.identity["dtype"] = step.dtype;
    classes.identity["model-content"] = inputs.model_hash;
    classes.identity["data-content"] = inputs.data_hash;
    if (options.rope_original == 0) classes.identity.erase("rope-original");  // as in checkpoints older than the option
    return classes;
}

Json base_model_of(const TrainOptions& options, const Inputs& inputs) {
    if (options.model.empty()) return {};
    return {{"path", std::filesystem::absolute(options.model).lexically_normal().string()},
            {"hash", inputs.model_hash}};
}

Json files_of(const DataOrder& order) {
    Json files = Json::array();
    for (std::int64_t i = 0; i < order.num_sources(); ++i)
        files.push_back({{"path", order.file(i).path()},
                         {"hash", order.file(i).content_hash()},
                         {"tokens", order.file(i).num_tokens()}});
    return files;
}

}  // namespace

RunRecord run_record(const TrainOptions& options, const Inputs& inputs, const FittedStep& step,
                     const Json& environment) {
    const OptionClasses classes = options_of(options, inputs, step);
    return {classes,
            {{"model_config", Json::parse(inputs.base.config.raw.dump())},
             {"base_model", base_model_of(options, inputs)},
             {"trainable", to_json(inputs.base.trainables)},
             {"options", to_json(classes)},
             {"tokens_per_step", options.global_batch * options.context},
             {"environment", environment}}};
}

Json manifest_of(const RunRecord& record, const TrainOptions& options, const Inputs& inputs, const FittedStep& step,
                 parallel::MeshShape shape) {
    Json manifest = record.attributes;
    manifest["keep"] = to_text(step.activations, step.stage);
    const ParameterList list = list_parameters(inputs.base.config, inputs.base.trainables);
    manifest["parameters"] = {{"total", list.total_elements()}, {"trainable", list.trainable_elements()}};
    manifest["mesh"] = {
        {"pipeline", shape.pipeline}, {"data", shape.data}, {"sequence", shape.sequence}, {"zero", options.zero}};
    manifest["data"] = files_of(*inputs.order);
    manifest["model_tensors"] = inputs.model_tensors;  // as at the first start: a resume refuses any other model
    const JobIdentity job = job_of_environment();
    manifest["job"] = {{"cluster", job.cluster}, {"id", job.id}, {"restart", job.restart}};
    return manifest;
}

}  // namespace longlora
