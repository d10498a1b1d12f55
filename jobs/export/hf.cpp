// The format "hf" of `longlora export`: a merged Hugging Face model folder, which AutoModelForCausalLM.from_pretrained
// and other tools load without LoRA. Adapters are written in jobs/export/adapter.cpp.
#include <algorithm>

#include "io/file.h"
#include "jobs/export/formats.h"
#include "model/vocabulary_growth.h"

namespace longlora {
namespace {

using OrderedJson = nlohmann::ordered_json;

/// The files of a base model's folder that stay valid for the extended model: tokenizer, licence.
constexpr const char* kCopied[] = {"tokenizer.model",     "tokenizer.json", "special_tokens_map.json",
                                   "added_tokens.json",   "vocab.json",     "merges.txt",
                                   "chat_template.jinja", "LICENSE",        "LICENSE.txt",
                                   "USE_POLICY.md",       "NOTICE"};

/// Keys of config.json that Llama models do not use, but in which other programs look for the context length, or from
/// which transformers takes the default of generate(). vLLM takes the smallest of them.
constexpr const char* kOldLengths[] = {
    "max_length", "max_sequence_length", "max_seq_length",       "max_seq_len",     "seq_length", "seq_len",
    "n_ctx",      "n_positions",         "max_target_positions", "model_max_length"};

/// Copies a JSON file. A length in `key` that is at least `least` and below the context becomes the context.
void copy_with_length(const std::string& from, const std::string& to, const char* key, std::int64_t least,
                      std::int64_t context) {
    if (!file_exists(from)) return;
    const std::string content = read_text_file(from);
    OrderedJson config = OrderedJson::parse(content, nullptr, false);
    require(config.is_object(), from, " is not a JSON object");
    const auto length = config.find(key);
    if (length == config.end() || !length->is_number() || length->get<double>() < static_cast<double>(least) ||
        length->get<double>() >= static_cast<double>(context))
        return write_text_file(to, content);
    *length = context;
    write_text_file(to, config.dump(2) + "\n");
}

/// The shortest length that means "the base model's context": its max_position_embeddings, or the length before any
/// scaling.
std::int64_t shortest_context(const ExportSource& source) {
    const std::string file = source.base_path + "/config.json";
    const ModelConfig base = file_exists(file) ? read_config(file) : source.config;
    return std::min(base.original_positions(), base.max_positions);
}

/// Tokenizers cut texts at model_max_length, and generate() refuses prompts beyond max_length, so both must not stay at
/// the old context. A larger value stays (a very large one means "no limit"), and so does a max_length below the old
/// context, which somebody chose.
void copy_base_files(const ExportSource& source, const std::string& folder) {
    const std::string& base = source.base_path;
    for (const char* name : kCopied)
        if (file_exists(base + "/" + name)) write_text_file(folder + "/" + name, read_text_file(base + "/" + name));
    const auto copy = [&](const std::string& name, const char* key, std::int64_t least) {
        copy_with_length(base + "/" + name, folder + "/" + name, key, least, source.context());
    };
    copy("tokenizer_config.json", "model_max_length", 0);
    copy("generation_config.json", "max_length", shortest_context(source));
}

}  // namespace

void write_config(const ModelConfig& config, const std::string& dtype, const std::string& folder) {
    ModelConfig written = config;
    write_rope(written);
    OrderedJson& raw = written.raw;
    raw.erase("_name_or_path");  // the old folder of the base model
    forget_growth(raw);
    for (const char* key : kOldLengths) raw.erase(key);
    if (!raw.contains("architectures"))
        raw["architectures"] = {config.model_type == "mistral" ? "MistralForCausalLM" : "LlamaForCausalLM"};
    if (!dtype.empty()) raw["torch_dtype"] = raw["dtype"] = dtype;  // the keys of transformers 4 and 5
    write_text_file(folder + "/config.json", raw.dump(2) + "\n");
}

void export_hf(const ExportSource& source, const std::string& folder, DType dtype) {
    write_config(source.config, std::string(name_of(dtype)), folder);
    if (source.base) copy_base_files(source, folder);
    std::vector<TensorToWrite> tensors;
    for (const Parameter& p : source.list.parameters)
        if (p.group != ParameterGroup::lora) tensors.push_back(merged_tensor(source, p, dtype));
    write_safetensors_folder(folder, tensors);
}

}  // namespace longlora
