// The format "hf" of `longlora export`: a merged Hugging Face model folder, which AutoModelForCausalLM.from_pretrained
// and other tools load without LoRA. Adapters are written in jobs/export/adapter.cpp.
#include "io/file.h"
#include "jobs/export/formats.h"

namespace longlora {
namespace {

using OrderedJson = nlohmann::ordered_json;

/// The files of a base model's folder that stay valid for the extended model: generation, tokenizer, licence.
constexpr const char* kCopied[] = {"generation_config.json",
                                   "tokenizer.model",
                                   "tokenizer.json",
                                   "special_tokens_map.json",
                                   "added_tokens.json",
                                   "vocab.json",
                                   "merges.txt",
                                   "chat_template.jinja",
                                   "LICENSE",
                                   "LICENSE.txt",
                                   "USE_POLICY.md",
                                   "NOTICE"};

/// Raises model_max_length to the context; otherwise tokenizers would cut texts at the old length. A larger value stays
/// (a very large one means "no limit").
void copy_tokenizer_config(const std::string& from, const std::string& to, std::int64_t context) {
    const std::string content = read_text_file(from);
    OrderedJson config = OrderedJson::parse(content, nullptr, false);
    require(config.is_object(), from, " is not a JSON object");
    const auto length = config.find("model_max_length");
    if (length == config.end() || !length->is_number() || length->get<double>() >= static_cast<double>(context))
        return write_text_file(to, content);
    *length = context;
    write_text_file(to, config.dump(2) + "\n");
}

}  // namespace

void write_config(const ModelConfig& config, const std::string& dtype, const std::string& folder) {
    ModelConfig written = config;
    write_rope(written);
    OrderedJson& raw = written.raw;
    raw.erase("_name_or_path");  // the old folder of the base model
    if (!raw.contains("architectures"))
        raw["architectures"] = {config.model_type == "mistral" ? "MistralForCausalLM" : "LlamaForCausalLM"};
    if (!dtype.empty()) raw["torch_dtype"] = raw["dtype"] = dtype;  // the keys of transformers 4 and 5
    write_text_file(folder + "/config.json", raw.dump(2) + "\n");
}

void export_hf(const ExportSource& source, const std::string& folder, DType dtype) {
    write_config(source.config, std::string(name_of(dtype)), folder);
    if (source.base) {
        const std::string& base = source.base_path;
        for (const char* name : kCopied)
            if (file_exists(base + "/" + name)) write_text_file(folder + "/" + name, read_text_file(base + "/" + name));
        const std::string config = base + "/tokenizer_config.json";
        if (file_exists(config)) copy_tokenizer_config(config, folder + "/tokenizer_config.json", source.context());
    }
    std::vector<TensorToWrite> tensors;
    for (const Parameter& p : source.list.parameters)
        if (p.group != ParameterGroup::lora) tensors.push_back(merged_tensor(source, p, dtype));
    write_safetensors_folder(folder, tensors);
}

}  // namespace longlora
