// Reads config.json: sizes, defaults as in transformers, and refusals. config_rope.cpp reads the rotary keys.
#include "model/config.h"

#include <fstream>

#include "io/json.h"
#include "model/config_values.h"

namespace longlora {

namespace {

constexpr std::uintmax_t kLargestFile = 1 << 20;
constexpr int kDeepest = 32;

/// Copies and dumps of JSON values recurse, so a file that nests too deep must be refused before them.
bool deeper_than(const OrderedJson& value, int levels) {
    if (!value.is_structured()) return false;
    if (levels == 0) return true;
    for (const auto& inner : value)
        if (deeper_than(inner, levels - 1)) return true;
    return false;
}

std::int64_t required_size(const OrderedJson& json, const char* key, const std::string& where) {
    const OrderedJson* value = find_value(json, key);
    require(value, where, ": ", key, " is missing");
    return size_value(*value, key, where);
}

std::int64_t optional_size(const OrderedJson& json, const char* key, std::int64_t otherwise, const std::string& where) {
    const OrderedJson* value = find_value(json, key);
    return value ? size_value(*value, key, where) : otherwise;
}

bool is_true(const OrderedJson& json, const char* key, const std::string& where) {
    const OrderedJson* value = find_value(json, key);
    return value && truth(*value, key, where);
}

/// The value may be null, an integer, or a list of integers, of which the first counts. An id that the vocabulary
/// does not have can be neither produced nor embedded, so it counts as no id (small test models have such leftovers).
std::int64_t special_token(const OrderedJson& json, const char* key, std::int64_t otherwise, std::int64_t vocabulary,
                           const std::string& where) {
    const auto at = json.find(key);
    std::int64_t id = at == json.end() ? otherwise : -1;
    if (at != json.end() && !at->is_null()) {
        if (at->is_array()) {
            for (const auto& one : *at) whole_number(one, key, where);
            if (!at->empty()) id = whole_number(at->front(), key, where);
        } else {
            id = whole_number(*at, key, where);
        }
    }
    return id >= 0 && id < vocabulary ? id : -1;
}

void refuse_unless_zero(const OrderedJson& json, const char* key, const char* what, const std::string& where) {
    const OrderedJson* value = find_value(json, key);
    require(!value || (value->is_number() && value->get<double>() == 0), where, ": ", key, " is ",
            value ? shown(*value) : "", ": ", what, " not supported");
}

void refuse_sliding_window(const OrderedJson& json, const std::string& model_type, const std::string& where) {
    const bool asked = is_true(json, "use_sliding_window", where);
    require(!asked, where, ": use_sliding_window is true: attention with a sliding window is not supported");
    const auto window = json.find("sliding_window");
    if (model_type == "mistral") {
        require(
            window != json.end(), where,
            ": sliding_window is missing, which for mistral means a window of 4096 tokens, and sliding windows are not "
            "supported; write \"sliding_window\": null if the model has none");
        require(window->is_null(), where, ": sliding_window is ", shown(*window),
                ": attention with a sliding window is not supported");
        return;
    }
    // Llama models have no window. A leftover size is harmless only if the same file says that no window is used.
    const bool declared_unused = find_value(json, "use_sliding_window") != nullptr;
    require(window == json.end() || window->is_null() || declared_unused, where, ": sliding_window is ",
            window == json.end() ? "" : shown(*window), ": attention with a sliding window is not supported");
}

void refuse_unsupported(const OrderedJson& json, const std::string& model_type, const std::string& where) {
    for (const char* key : {"attention_bias", "mlp_bias"})
        require(!is_true(json, key, where), where, ": ", key, " is true: layers with biases are not supported");
    if (const OrderedJson* value = find_value(json, "hidden_act")) {
        const std::string activation = word(*value, "hidden_act", where);
        require(activation == "silu" || activation == "swish", where, ": hidden_act is ", shown(*value),
                "; only \"silu\" is supported");
    }
    refuse_sliding_window(json, model_type, where);
    if (const OrderedJson* kinds = find_value(json, "layer_types")) {
        require(kinds->is_array(), where, ": layer_types is ", shown(*kinds), ", not a list");
        for (const auto& kind : *kinds)
            require(kind == "full_attention", where, ": layer_types has ", shown(kind),
                    "; only \"full_attention\" is supported");
    }
    for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"})
        refuse_unless_zero(json, key, "mixtures of experts are", where);
    const OrderedJson* quantisation = find_value(json, "quantization_config");
    require(!quantisation, where,
            ": quantization_config is set: quantised weights are not supported; use the unquantised model");
    refuse_unless_zero(json, "attention_dropout", "dropout is", where);
    if (const OrderedJson* value = find_value(json, "partial_rotary_factor"))
        require(real_number(*value, "partial_rotary_factor", where) == 1, where, ": partial_rotary_factor is ",
                shown(*value), "; only 1 is supported");
}

void parse_sizes(const OrderedJson& json, ModelConfig& config, const std::string& where) {
    config.hidden = required_size(json, "hidden_size", where);
    config.intermediate = required_size(json, "intermediate_size", where);
    config.num_layers = required_size(json, "num_hidden_layers", where);
    config.num_heads = required_size(json, "num_attention_heads", where);
    config.vocabulary = required_size(json, "vocab_size", where);
    config.new_rows = find_value(json, "longlora_new_rows") ? required_size(json, "longlora_new_rows", where) : 0;
    require(config.new_rows < config.vocabulary, where, ": longlora_new_rows is ", config.new_rows,
            ", which is not below vocab_size");
    config.max_positions = required_size(json, "max_position_embeddings", where);
    // Without the key, mistral has 8 (its class default) and llama as many as query heads. A null means as many as
    // query heads for both.
    const bool mistral_default = config.model_type == "mistral" && !json.contains("num_key_value_heads");
    config.num_kv_heads = mistral_default ? 8 : optional_size(json, "num_key_value_heads", config.num_heads, where);
    require(config.num_heads % config.num_kv_heads == 0, where, ": num_attention_heads is ", config.num_heads,
            ", not a multiple of num_key_value_heads ", config.num_kv_heads);
    const bool own_width = find_value(json, "head_dim") != nullptr;
    require(own_width || config.hidden % config.num_heads == 0, where, ": hidden_size is ", config.hidden,
            ", not a multiple of num_attention_heads ", config.num_heads, ", and there is no head_dim");
    config.head_dim = optional_size(json, "head_dim", config.hidden / config.num_heads, where);
    require(config.head_dim % 2 == 0, where, ": head_dim is ", config.head_dim, "; rotary embeddings need an even one");

    // In double, since the products may overflow. 2^55 parameters leave room for 16 bytes each in int64.
    const auto real = [](std::int64_t n) { return static_cast<double>(n); };
    const double attention =
        2 * real(config.hidden) * real(config.head_dim) * (real(config.num_heads) + real(config.num_kv_heads));
    const double layer = attention + 3 * real(config.hidden) * real(config.intermediate) + 2 * real(config.hidden);
    const double total = real(config.num_layers) * layer + 2 * real(config.vocabulary) * real(config.hidden);
    require(total < 0x1p55, where,
            ": hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, head_dim and vocab_size "
            "together make a model of ",
            total, " parameters, which no machine holds");
}

}  // namespace

ModelConfig parse_config(const OrderedJson& json, const std::string& where) {
    require(json.is_object(), where, ": a model's config is a JSON object {...}, not a JSON ", json.type_name());
    require(!deeper_than(json, kDeepest), where, ": values are nested more than ", kDeepest,
            " levels deep; this is not a model's config");
    ModelConfig config;
    const OrderedJson* type = find_value(json, "model_type");
    require(type, where, ": model_type is missing");
    config.model_type = word(*type, "model_type", where);
    require(config.model_type == "llama" || config.model_type == "mistral", where, ": model_type is ", shown(*type),
            "; only \"llama\" and \"mistral\" are supported");
    refuse_unsupported(json, config.model_type, where);
    parse_sizes(json, config, where);
    config.tied = is_true(json, "tie_word_embeddings", where);
    if (const OrderedJson* value = find_value(json, "rms_norm_eps")) {
        config.rms_norm_eps = real_number(*value, "rms_norm_eps", where);
        require(config.rms_norm_eps > 0 && config.rms_norm_eps <= 1, where, ": rms_norm_eps is ", shown(*value),
                "; it must be above 0 and at most 1");
    }
    if (const OrderedJson* value = find_value(json, "initializer_range")) {
        config.initializer_range = real_number(*value, "initializer_range", where);
        require(config.initializer_range >= 0 && config.initializer_range <= 1, where, ": initializer_range is ",
                shown(*value), "; it must be between 0 and 1");
    }
    config.bos = special_token(json, "bos_token_id", 1, config.vocabulary, where);
    config.eos = special_token(json, "eos_token_id", 2, config.vocabulary, where);
    config.rope = parse_rope(json, config.max_positions, where);
    config.raw = json;
    return config;
}

ModelConfig read_config(const std::filesystem::path& path) {
    namespace fs = std::filesystem;
    std::error_code problem;
    const fs::path file = fs::is_directory(path, problem) ? path / "config.json" : path;
    const std::string where = file.string();
    require(fs::exists(file, problem), where, " does not exist; give a folder with config.json, or the file itself");
    require(fs::is_regular_file(file, problem), where, " is not a regular file");
    const std::uintmax_t size = fs::file_size(file, problem);
    require(!problem && size <= kLargestFile, where, " has more than ", kLargestFile,
            " bytes; this is not a model's config");
    std::ifstream in(file, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    require(in && !in.bad(), where, " cannot be read");
    OrderedJson json;
    try {
        json = OrderedJson::parse(content);
    } catch (const OrderedJson::exception& fault) {
        fail(text(where, " is not valid JSON", place_and_reason(fault.what())));
    }
    return parse_config(json, where);
}

}  // namespace longlora
