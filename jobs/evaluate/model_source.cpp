// Loads the base model first, then the adapter or checkpoint that replaces or extends its values.
#include "jobs/evaluate/model_source.h"

#include "io/content_hash.h"
#include "model/parameters_json.h"
#include "parallel/agree.h"
#include "train/checkpoint.h"

namespace longlora {
namespace {

void open_plain(ModelSource& source, const ModelPaths& places) {
    source.model_path = places.model;
    source.config = read_config(places.model);
    source.trainables = nothing_trainable();
    source.files.emplace(places.model);
    if (places.adapter.empty()) return;
    source.adapter = open_adapter(places.adapter, source.config);
    source.trainables = source.adapter->trainables;
    source.config = source.adapter->config;
}

/// Whether the checkpoint holds every parameter, as after full fine-tuning.
bool holds_everything(const ModelSource& source) {
    const ParameterList list = list_parameters(source.config, source.trainables);
    return list.trainable_elements() == list.total_elements();
}

void open_base_of_checkpoint(ModelSource& source, const std::string& model) {
    const std::string& where = source.checkpoint_path;
    if (holds_everything(source)) {
        require(model.empty(), where, " holds every parameter itself, so --model has no effect; leave it out");
        return;
    }
    const Json& base = member(source.attributes, "base_model", where);
    require(base.is_object(), where,
            " does not hold every parameter but names no base model; it is not a checkpoint of this program");
    source.model_path = model.empty() ? get_text(base, "path", where) : model;
    source.expected_hash = get_text(base, "hash", where);
    require(is_folder(source.model_path), "the base model of ", where, " is not in ", source.model_path,
            "; say where it is with --model DIR");
    source.files.emplace(source.model_path);
}

void open_checkpoint(ModelSource& source, const ModelPaths& places) {
    source.checkpoint_path = places.checkpoint;
    const std::string& where = source.checkpoint_path;
    source.attributes = read_checkpoint_attributes(where);
    source.config = parse_config(nlohmann::ordered_json(member(source.attributes, "model_config", where)), where);
    source.trainables = trainables_of(member(source.attributes, "trainable", where), where);
    open_base_of_checkpoint(source, places.model);
}

void require_base_model(const ModelSource& source, const std::string& hash) {
    require(source.expected_hash.empty() || hash == source.expected_hash, "the weights in ", source.model_path,
            " differ from the weights that ", source.checkpoint_path,
            " was trained from; name the right base model with --model DIR");
}

}  // namespace

void check_places(const ModelPaths& places) {
    require(places.adapter.empty() || places.checkpoint.empty(),
            "--adapter and --checkpoint exclude each other; leave one out");
    require(places.adapter.empty() || !places.model.empty(), "--adapter ", places.adapter,
            " needs its base model; add --model DIR");
    require(!places.model.empty() || !places.checkpoint.empty(),
            "no model is given; add --model DIR, --model DIR --adapter DIR, or --checkpoint FILE (or RUN)");
}

ModelSource open_model_source(const ModelPaths& places, const RopeRequest& rope) {
    check_places(places);
    ModelSource source;
    if (places.checkpoint.empty()) open_plain(source, places);
    else open_checkpoint(source, places);
    source.config = override_rope(source.config, rope);
    return source;
}

WeightsOptions weights_options_of(const ModelSource& source, DType real) {
    WeightsOptions weights_options;
    weights_options.real = real;
    weights_options.frozen =
        source.files ? frozen_dtype_of(real, list_parameters(source.config, source.trainables), *source.files) : real;
    weights_options.training = false;
    return weights_options;
}

LoadedWeights load_weights(const parallel::HostGroup& group, Device& device, const ModelSource& source,
                           const WeightsOptions& weights_options, const Stage& stage) {
    LoadedWeights loaded;
    loaded.weights = parallel::agreed(group, [&] {
        return std::make_unique<Weights>(device, source.config, source.trainables, weights_options, stage);
    });
    if (source.files) {
        const TensorChecksums tensors = load_model_on_all_ranks(group, *loaded.weights, *source.files, 0);
        loaded.model_hash = content_hash(*source.files, tensors);
        parallel::agree(group, [&] { require_base_model(source, loaded.model_hash); });
    }
    if (source.adapter)
        loaded.adapter_hash =
            content_hash(*source.adapter, load_adapter_on_all_ranks(group, *loaded.weights, *source.adapter));
    if (!source.checkpoint_path.empty())
        parallel::agree(group, [&] { load_checkpoint(*loaded.weights, source.checkpoint_path); });
    return loaded;
}

}  // namespace longlora
