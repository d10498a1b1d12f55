// The adapter formats of `longlora export`: PEFT's layout, and the two files that LongLoRA publishes. An adapter holds
// only the trained parameters; the merged model is written in jobs/export/hf.cpp.
#include <algorithm>

#include "io/file.h"
#include "io/torch_file.h"
#include "jobs/export/formats.h"

namespace longlora {
namespace {

using OrderedJson = nlohmann::ordered_json;

const std::string kPeftPrefix = "base_model.model.";

bool is_lora(const Parameter& p) { return p.group == ParameterGroup::lora; }

/// Only keys that PEFT 0.6 reads: it stops at unknown keys, as do many later versions. The defaults of all other keys,
/// such as use_dora, are right for our adapters.
OrderedJson adapter_config(const ExportSource& source) {
    const TrainableSet& set = source.trainables;
    OrderedJson targets = OrderedJson::array();
    for (const Projection p : set.lora_targets) targets.push_back(std::string(name_of(p)) + "_proj");
    const auto whole = static_cast<std::int64_t>(set.lora_alpha);
    const OrderedJson alpha =
        static_cast<double>(whole) == set.lora_alpha ? OrderedJson(whole) : OrderedJson(set.lora_alpha);
    return {{"auto_mapping", nullptr},
            {"base_model_name_or_path", source.base_path},
            {"bias", "none"},
            {"fan_in_fan_out", false},
            {"inference_mode", true},
            {"init_lora_weights", true},
            {"layers_pattern", nullptr},
            {"layers_to_transform", nullptr},
            {"lora_alpha", alpha},
            {"lora_dropout", 0.0},
            {"modules_to_save", nullptr},
            {"peft_type", "LORA"},
            {"r", set.lora_rank},
            {"revision", nullptr},
            {"target_modules", targets},
            {"task_type", "CAUSAL_LM"}};
}

bool trains(const ExportSource& source, ParameterGroup group) {
    return std::any_of(source.list.parameters.begin(), source.list.parameters.end(),
                       [&](const Parameter& p) { return p.trainable && p.group == group; });
}

/// The modules_to_save that peft itself writes when embedding, norms or head are trained in full
/// (tests/golden/*/trained-adapter has examples).
OrderedJson modules_to_save(const ExportSource& source) {
    const bool embedding = trains(source, ParameterGroup::embedding), norm = trains(source, ParameterGroup::norm);
    OrderedJson modules = OrderedJson::array();
    if (embedding) modules.push_back("embed_tokens");
    if (norm)
        for (const char* name : {"input_layernorm", "post_attention_layernorm", "norm"}) modules.push_back(name);
    if (trains(source, ParameterGroup::weight)) modules.push_back("lm_head");
    if (embedding && source.config.tied) modules.push_back("model.embed_tokens");
    return modules.empty() ? OrderedJson(nullptr) : modules;
}

void write_json(const std::string& path, const OrderedJson& json) { write_text_file(path, json.dump(2) + "\n"); }

}  // namespace

void export_peft(const ExportSource& source, const std::string& folder, DType dtype) {
    std::vector<TensorToWrite> tensors;
    const bool both_ends = source.config.tied && trains(source, ParameterGroup::embedding);
    for (const Parameter& p : source.list.parameters) {
        if (!p.trainable) continue;
        tensors.push_back(plain_tensor(source, p, kPeftPrefix + p.name, dtype));
        if (both_ends && p.group == ParameterGroup::embedding)
            tensors.push_back(plain_tensor(source, p, kPeftPrefix + "lm_head.weight", dtype));
    }
    std::sort(tensors.begin(), tensors.end(),
              [](const TensorToWrite& a, const TensorToWrite& b) { return a.name < b.name; });
    OrderedJson config = adapter_config(source);
    config["modules_to_save"] = modules_to_save(source);
    if (both_ends) config["ensure_weight_tying"] = true;  // the head needs it: PEFT 0.18 or later
    write_json(folder + "/adapter_config.json", config);
    write_config(source.config, {}, folder);
    write_safetensors(folder + "/adapter_model.safetensors", tensors);
}

void export_longlora(const ExportSource& source, const std::string& folder, DType dtype) {
    std::vector<TensorToWrite> lora, others;
    for (const Parameter& p : source.list.parameters) {
        if (!p.trainable) continue;
        if (is_lora(p)) lora.push_back(plain_tensor(source, p, kPeftPrefix + p.name, dtype));
        else others.push_back(plain_tensor(source, p, p.name, dtype));
    }
    write_json(folder + "/adapter_config.json", adapter_config(source));
    write_config(source.config, {}, folder);
    write_torch_file(folder + "/adapter_model.bin", lora);
    if (!others.empty()) write_torch_file(folder + "/trainable_params.bin", others);
}

}  // namespace longlora
