// Follows AutoTokenizer.from_pretrained of transformers 5.24 and the constructors of the classes in the list below.
#include "io/tokenizer_class.h"

#include <algorithm>

#include "core/error.h"
#include "io/file.h"

namespace longlora {

namespace {

struct KnownClass {
    const char* name;
    const char* model_types;  // those of config.json, beside "llama", with which transformers uses the class
    const char* names;
    const char* parts;  // "$space" stands for add_prefix_space, "$scheme" for what Metaspace makes of it
};

constexpr const char* kLlamaNames = R"({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})";
constexpr const char* kLlamaParts = R"({
    "normalizer": null,
    "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "$scheme", "split": false},
    "decoder": {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"unk_token": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false}})";

constexpr KnownClass kClasses[] = {
    {"LlamaTokenizer", "[]", kLlamaNames, kLlamaParts},
    {"CodeLlamaTokenizer", R"(["code_llama"])", R"({
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "additional_special_tokens": [
            "\u2581<PRE>", "\u2581<MID>", "\u2581<SUF>", "\u2581<EOT>", "<FILL_ME>"]})",
     kLlamaParts},
    {"GPT2Tokenizer", R"(["gpt2"])", R"({
        "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"})",
     R"({"normalizer": null,
         "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": "$space", "use_regex": true},
         "decoder": {"type": "ByteLevel"},
         "model": {"unk_token": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false}})"},
    {"Qwen2Tokenizer", R"(["qwen2", "qwen3"])", R"({
        "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})",
     R"({"normalizer": {"type": "NFC"},
         "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
                "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|)"
     R"( ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
            {"type": "ByteLevel", "add_prefix_space": "$space", "use_regex": false}]},
         "decoder": {"type": "ByteLevel"},
         "model": {"unk_token": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false}})"},
};

/// Classes that take the files as they are, and models for which transformers does so whatever the class is.
constexpr const char* kPlainClasses[] = {"", "PreTrainedTokenizer", "TokenizersBackend", "LLaMATokenizer"};
constexpr const char* kPlainModels[] = {"mistral"};

const KnownClass* find_class(const std::string& name) {
    const auto found = std::find_if(std::begin(kClasses), std::end(kClasses),
                                    [&](const KnownClass& known) { return known.name == name; });
    return found == std::end(kClasses) ? nullptr : &*found;
}

bool contains(const auto& list, const std::string& name) {
    return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

Json read_object(const std::string& path) {
    if (!file_exists(path)) return Json::object();
    Json json = read_json_file(path);
    require(json.is_object(), path, " is not a JSON object");
    return json;
}

std::string word_of(const Json& json, const char* key, const std::string& path) {
    return json.contains(key) && !json[key].is_null() ? get_text(json, key, path) : "";
}

bool has_byte_level(const Json& tokenizer) {
    for (const char* part : {"normalizer", "pre_tokenizer", "post_processor", "decoder"})
        if (tokenizer.contains(part) && to_line(tokenizer[part]).find("\"ByteLevel\"") != std::string::npos)
            return true;
    return false;
}

Json filled_in(Json json, const Json& space, const std::string& scheme) {
    if (json == "$space") return space;
    if (json == "$scheme") return scheme;
    if (json.is_structured())
        for (Json& value : json) value = filled_in(value, space, scheme);
    return json;
}

/// Without the fields that ids do not depend on, to compare the parts of two files.
Json essence(Json json) {
    if (json.is_object()) json.erase("trim_offsets");
    if (json.is_structured())
        for (Json& value : json) value = essence(value);
    return json;
}

}  // namespace

std::string read_tokenizer_class(const std::string& folder, const Json& tokenizer) {
    const std::string path = folder + "/tokenizer_config.json", model_path = folder + "/config.json";
    const Json model = read_object(model_path);
    std::string name = word_of(read_object(path), "tokenizer_class", path);
    if (name.empty()) name = word_of(model, "tokenizer_class", model_path);
    const std::string said = name, type = word_of(model, "model_type", model_path);
    if (name.ends_with("Fast")) name.resize(name.size() - 4);
    if (contains(kPlainClasses, name) || contains(kPlainModels, type)) return "";
    if (name == "LlamaTokenizer" && has_byte_level(tokenizer)) return "";
    const KnownClass* known = find_class(name);
    require(known, folder, ": \"tokenizer_class\" is ", said.substr(0, 60), ", which is not supported; if ",
            "tokenizer.json is right as it is, PreTrainedTokenizerFast says so, or else tokenize with another program ",
            "and prepare the token ids");
    require(type.empty() || type == "llama" || contains(Json::parse(known->model_types), type), model_path,
            ": \"model_type\" is ", type.substr(0, 60), ", with which transformers may use another class than the ",
            "\"tokenizer_class\" ", said, "; remove this config.json from the folder of the tokenizer if it does not");
    return name;
}

Json names_of_class(const std::string& name) {
    const KnownClass* known = find_class(name);
    return known ? Json::parse(known->names) : Json::object();
}

std::string take_parts_of_class(const std::string& name, const TokenizerConfig& config, Json& tokenizer,
                                const std::string& path) {
    const KnownClass* known = find_class(name);
    if (!known) return "";
    const bool llama = known->parts == kLlamaParts, space = config.add_prefix_space.value_or(llama);
    const bool always = name == "LlamaTokenizer" && config.legacy.value_or(false);
    Json parts = filled_in(Json::parse(known->parts), space, !space ? "never" : always ? "always" : "first");
    if (name == "LlamaTokenizer" && !space) parts["decoder"]["decoders"].erase(3);
    std::string differ;
    for (const char* part : {"normalizer", "pre_tokenizer"})
        if (essence(tokenizer.value(part, Json())) != essence(parts[part]))
            differ += text(differ.empty() ? "" : " and ", part);
    tokenizer["model"].update(parts["model"]);
    for (const char* part : {"normalizer", "pre_tokenizer", "decoder"}) tokenizer[part] = parts[part];
    if (differ.empty()) return "";
    return text("the ", differ, " of ", path, " are not used: transformers 5 has others for the tokenizer_class ", name,
                ", and so has longlora; transformers 4 uses those of the file (both do with PreTrainedTokenizerFast)");
}

}  // namespace longlora
