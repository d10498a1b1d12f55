// Reads adapter folders. It checks adapter_config.json key by key, translates tensor names to ours, and compares
// every tensor with the base model's list of parameters. Files are safetensors or PyTorch's (io/torch_file.h).
#include "model/adapter.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"
#include "model/vocabulary_growth.h"

namespace longlora {
namespace {

/// Whether a value says nothing: null, false, "", {} or [].
bool is_empty(const Json& value) {
    return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
           (value.is_string() && value.get<std::string>().empty()) || (value.is_structured() && value.empty());
}

/// Keys that other code here checks, or that do not change what the adapter computes. Any other key passes only if
/// its value is empty (is_empty), a number or a text.
bool is_harmless(const std::string& key) {
    static const std::set<std::string> keys = {"peft_type",
                                               "r",
                                               "lora_alpha",
                                               "target_modules",
                                               "modules_to_save",
                                               "bias",
                                               "init_lora_weights",
                                               "task_type",
                                               "revision",
                                               "inference_mode",
                                               "lora_dropout",
                                               "peft_version",
                                               "auto_mapping",
                                               "exclude_modules",
                                               "eva_config",
                                               "megatron_core",
                                               "base_model_name_or_path",
                                               "ensure_weight_tying"};
    return keys.count(key) != 0;
}

void check_key(const std::string& key, const Json& value, const std::string& where) {
    const auto refuse = [&](const char* why) {
        fail(text(where, ": \"", key, "\": ", value.dump(), " is not supported; ", why));
    };
    if (key == "peft_type" && value != "LORA") refuse("longlora reads only LoRA adapters");
    if (key == "bias" && value != "none") refuse("an adapter must not have biases");
    // "pissa", "olora", "loftq", "corda" ... change the base model's weights as well
    if (key == "init_lora_weights" && value.is_string() && value != "gaussian" && value != "eva" &&
        value != "orthogonal")
        refuse("this initialisation changes the base model; merge the adapter with peft and use the merged model");
    static const std::set<std::string> must_be_empty = {"fan_in_fan_out", "layers_to_transform", "layers_pattern"};
    if (is_harmless(key) || is_empty(value)) return;
    const bool tells_little = (value.is_number() || value.is_string()) && must_be_empty.count(key) == 0;
    if (!tells_little) refuse("merge the adapter with peft and use the merged model");
}

std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

/// Checks PEFT's modules_to_save, and that each listed target is one of our projections.
void check_modules(const Json& config, const std::string& where) {
    if (config.contains("modules_to_save") && config["modules_to_save"].is_array()) {
        for (const Json& module : config["modules_to_save"]) {
            const std::string name = module.is_string() ? last_part(module.get<std::string>()) : module.dump();
            const bool known = name == "embed_tokens" || name == "norm" || name == "input_layernorm" ||
                               name == "post_attention_layernorm" || name == "lm_head";
            require(known, where, ": \"modules_to_save\" names ", name,
                    ", which is neither the embedding, a norm nor lm_head");
        }
    }
    if (!config.contains("target_modules") || !config["target_modules"].is_array())
        return;  // a pattern: the tensors show which projections it means
    for (const Json& module : config["target_modules"]) {
        const std::string name = module.is_string() ? last_part(module.get<std::string>()) : module.dump();
        bool known = false;
        for (int p = 0; p < kNumProjections; ++p)
            known = known || name == std::string(name_of(Projection(p))) + "_proj";
        require(known, where, ": \"target_modules\" names ", name,
                "; LoRA is supported on q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj");
    }
}

/// A set with the adapter's rank and alpha; find_trainables() adds the rest.
TrainableSet read_adapter_config(const Json& config, const std::string& where) {
    require(config.is_object(), where, " is not a JSON object");
    member(config, "peft_type", where);
    for (const auto& [key, value] : config.items()) check_key(key, value, where);
    check_modules(config, where);
    TrainableSet set;
    set.lora_rank = get_integer(config, "r", where);
    require(set.lora_rank >= 1, where, ": \"r\" is ", set.lora_rank, "; the rank of LoRA must be at least 1");
    const Json& alpha = member(config, "lora_alpha", where);
    require(alpha.is_number() && alpha.get<double>() > 0, where, ": \"lora_alpha\" is ", alpha.dump(),
            "; it must be a number above 0");
    set.lora_alpha = alpha.get<double>();
    set.embedding = set.norm = set.lm_head = false;
    set.lora_targets.clear();
    return set;
}

void remove_all(std::string& name, const std::string& what) {
    for (std::size_t at; (at = name.find(what)) != std::string::npos;) name.erase(at, what.size());
}

/// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" ->
/// "model.layers.0.self_attn.q_proj.lora_A.weight". It also translates the names of live PEFT modules, which have
/// "modules_to_save." or "default." in them.
std::string our_name(std::string name) {
    const std::string prefix = "base_model.model.";
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
    remove_all(name, "modules_to_save.");
    remove_all(name, "default.");
    return name;
}

void add_values(Adapter& adapter, const std::string& path) {
    adapter.files.push_back(open_tensor_file(path));
    const TensorFile& file = *adapter.files.back();
    for (const std::string& name : file.names()) {
        const HostTensor value = file.find(name).value();
        const bool real = value.dtype == DType::float32 || value.dtype == DType::bfloat16 ||
                          value.dtype == DType::float16 || value.dtype == DType::float64;
        require(real, path, ": ", name, " has the type ", name_of(value.dtype),
                "; it must be float16, bfloat16, float32 or float64");
        require(adapter.values.emplace(our_name(name), value).second, path, ": ", name,
                " occurs twice under different names");
        adapter.file_of[our_name(name)] = path;
    }
}

/// Sets what the adapter trains, from the names of its tensors. check_values() finds the unknown names.
void find_trainables(Adapter& adapter) {
    TrainableSet& set = adapter.trainables;
    for (const auto& [name, value] : adapter.values) {
        if (name == "model.embed_tokens.weight") set.embedding = true;
        else if (name == "lm_head.weight") set.lm_head = true;
        else if (name.ends_with("norm.weight")) set.norm = true;
        for (int p = 0; p < kNumProjections; ++p) {
            const bool here = name.find("." + std::string(name_of(Projection(p))) + "_proj.lora_") != std::string::npos;
            if (here && !set.targets(Projection(p))) set.lora_targets.push_back(Projection(p));
        }
    }
    std::sort(set.lora_targets.begin(), set.lora_targets.end());
    set.method = set.embedding || set.norm || set.lm_head ? Method::longlora : Method::lora;
}

/// With tied embeddings the head must equal the embedding. peft declares this by ensure_weight_tying and writes the
/// matrix twice. An adapter with trainable_params needs no declaration.
void check_tied(Adapter& adapter, const Json& config, bool separate_trainables, const std::string& where) {
    const auto head = adapter.values.find("lm_head.weight"),
               embedding = adapter.values.find("model.embed_tokens.weight");
    const bool has_head = head != adapter.values.end(), has_embedding = embedding != adapter.values.end();
    if (!has_head && !has_embedding) return;
    require(has_embedding, where, ": lm_head.weight is changed without the embedding, but the base model ties them");
    if (has_head) {
        const HostTensor &a = head->second, &b = embedding->second;
        const bool equal =
            a.dtype == b.dtype && a.shape == b.shape && std::memcmp(a.bytes, b.bytes, a.size_bytes()) == 0;
        require(equal, where, ": lm_head.weight differs from the embedding, but the base model ties them");
        adapter.values.erase(head);
        return;
    }
    const bool tying = config.contains("ensure_weight_tying") && config["ensure_weight_tying"] == true;
    require(tying || separate_trainables, where,
            ": the embedding is changed but not lm_head, which the base model ties to it; such an adapter needs "
            "\"ensure_weight_tying\": true");
}

/// Every tensor must be a parameter of the base model with this adapter's LoRA, and have its shape. No LoRA matrix
/// may be missing.
void check_values(const Adapter& adapter, const ModelConfig& base) {
    const ParameterList list = list_parameters(base, adapter.trainables);
    std::map<std::string, const Parameter*> known;
    for (const Parameter& p : list.parameters) known[p.name] = &p;
    for (const auto& [name, value] : adapter.values) {
        const auto found = known.find(name);
        const bool ours =
            found != known.end() && (found->second->group != ParameterGroup::weight || name == "lm_head.weight");
        require(ours, adapter.path, ": the tensor ", name,
                " is neither LoRA on a projection of the base model nor its embedding, norm or lm_head");
        require(found->second->shape == value.shape, adapter.path, ": ", name, " has the shape ", to_text(value.shape),
                ", the base model and rank ", adapter.trainables.lora_rank, " need ", to_text(found->second->shape));
    }
    for (const Parameter& p : list.parameters)
        require(p.group != ParameterGroup::lora || adapter.values.count(p.name) != 0, adapter.path, ": the tensor ",
                p.name, " is missing");
}

/// Every module that target_modules lists must have tensors. (peft would start a missing one at zero and not say so.)
void check_targets(const Adapter& adapter, const Json& config, const std::string& where) {
    if (!config.contains("target_modules") || !config["target_modules"].is_array()) return;
    for (const Json& module : config["target_modules"]) {
        const std::string name = last_part(module.get<std::string>());
        const Projection p = lora_targets_of(name).front();
        require(adapter.trainables.targets(p), where, " names ", name,
                " as a target, but the adapter has no tensor for it");
    }
}

/// The extended configuration beside the adapter must describe the same model.
void check_same_model(const ModelConfig& a, const ModelConfig& b, const std::string& where) {
    const auto same = [&](const char* what, std::int64_t x, std::int64_t y) {
        require(x == y, where, ": ", what, " is ", x, ", the base model has ", y);
    };
    same("hidden_size", a.hidden, b.hidden);
    same("intermediate_size", a.intermediate, b.intermediate);
    same("num_hidden_layers", a.num_layers, b.num_layers);
    same("num_attention_heads", a.num_heads, b.num_heads);
    same("num_key_value_heads", a.num_kv_heads, b.num_kv_heads);
    same("head_dim", a.head_dim, b.head_dim);
    same("vocab_size", a.vocabulary, b.vocabulary);
    require(a.tied == b.tied, where, ": tie_word_embeddings is ", a.tied ? "true" : "false", ", the base model has ",
            b.tied ? "true" : "false");
}

}  // namespace

std::vector<std::string> adapter_files(const std::string& folder) {
    std::vector<std::string> files;
    for (const std::string stem : {"/adapter_model", "/trainable_params"}) {
        const std::string safe = folder + stem + ".safetensors", pickled = folder + stem + ".bin";
        if (file_exists(safe)) files.push_back(safe);
        else if (file_exists(pickled)) files.push_back(pickled);
    }
    return files;
}

Adapter open_adapter(const std::string& path, const ModelConfig& base) {
    require(is_folder(path), path,
            " is not a folder; an adapter is a folder with adapter_config.json and adapter_model.safetensors");
    const std::string where = path + "/adapter_config.json";
    require(file_exists(where), path, " has no adapter_config.json, so it is not an adapter",
            file_exists(path + "/config.json") ? "; give a merged model with --model instead" : "");
    const Json config = read_json_file(where);
    Adapter adapter;
    adapter.path = path;
    adapter.trainables = read_adapter_config(config, where);
    const std::vector<std::string> files = adapter_files(path);
    require(!files.empty() && files[0].find("/adapter_model.") != std::string::npos, path,
            " has neither adapter_model.safetensors nor adapter_model.bin");
    for (const std::string& file : files) {
        const std::size_t before = adapter.values.size();
        add_values(adapter, file);
        require(adapter.values.size() > before, file,
                " has no tensors; a file of PyTorch has them as entries of its dict, not in a dict inside of it");
    }
    if (base.tied) check_tied(adapter, config, files.size() > 1, path);
    find_trainables(adapter);
    check_targets(adapter, config, where);
    adapter.config = base;
    const auto embedding = adapter.values.find("model.embed_tokens.weight");
    if (embedding != adapter.values.end() && embedding->second.shape.rank == 2)
        grow_vocabulary(adapter.config, std::max(base.vocabulary, embedding->second.shape[0]));
    check_values(adapter, adapter.config);
    if (file_exists(path + "/config.json")) {
        ModelConfig beside = read_config(path + "/config.json");
        check_same_model(beside, adapter.config, path + "/config.json");
        beside.vocabulary = base.vocabulary;
        grow_vocabulary(beside, adapter.config.vocabulary);
        adapter.config = std::move(beside);
    }
    return adapter;
}

std::string content_hash(const Adapter& adapter, const TensorChecksums& checksums) {
    Sha256 hash;
    for (const auto& [name, t] : adapter.values)
        hash.add(text(name, '\n', name_of(t.dtype), to_text(t.shape), checksums.at(name), '\n'));
    return hash.finish();
}

void load_adapter(Weights& weights, const Adapter& adapter, const ReadObserver& on_read) {
    const TrainableSet &ours = weights.trainables(), &its = adapter.trainables;
    require(its.lora_targets.empty() || ours.has_lora(), adapter.path,
            " is a LoRA adapter, which full fine-tuning cannot continue; merge it into its model and train that model");
    for (const Projection p : its.lora_targets)
        require(ours.targets(p), "the adapter ", adapter.path, " has LoRA on ", name_of(p),
                "_proj, but this run does not; add ", name_of(p), " to --lora-targets");
    if (!its.lora_targets.empty()) {
        require(ours.lora_rank == its.lora_rank, "the adapter ", adapter.path, " has rank ", its.lora_rank,
                ", but this run has rank ", ours.lora_rank, "; give --lora-rank ", its.lora_rank);
        require(ours.lora_alpha == its.lora_alpha, "the adapter ", adapter.path, " has alpha ", its.lora_alpha,
                ", but this run has alpha ", ours.lora_alpha, "; give --lora-alpha ", its.lora_alpha);
    }
    const ParameterList list = list_parameters(weights.config(), ours);
    for (const auto& [name, value] : adapter.values) {
        const Parameter& p = list.find(name);
        // Checkpoints hold what is trained, and the base model's files hold the rest: a frozen value of the adapter
        // would be in neither.
        require(p.trainable || !weights.options().training, "the adapter ", adapter.path, " has a trained ", name,
                ", which this run would keep frozen; take --method longlora and --train embed,norm");
        if (weights.list().look_up(name)) weights.set(p, value, adapter.path, on_read);  // other stages have the rest
    }
}

}  // namespace longlora
