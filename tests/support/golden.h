// Golden cases (tests/golden/CASE, made by Hugging Face transformers and peft): what was computed, its options, and our
// model set up the same way. What each array is says the head of make_golden.py; which are kept,
// tests/golden/copy_golden.py. No tests here.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/json.h"
#include "model/adapter.h"
#include "tests/support/model_fixture.h"

namespace longlora::golden {

/// The repository's cases, or those of $LONGLORA_GOLDEN (the complete ones).
inline std::string folder() {
    const char* other = std::getenv("LONGLORA_GOLDEN");
    return other ? other : std::string(SOURCE_FOLDER) + "/tests/golden";
}

inline std::vector<std::string> all_cases() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder()))
        if (std::filesystem::exists(entry.path() / "golden.json")) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
}

struct Case {
    std::string path;
    ModelConfig config;
    Json json;
    SafetensorsFile arrays;

    explicit Case(const std::string& name)
        : path(folder() + "/" + name),
          config(read_config(path)),
          json(read_json_file(path + "/golden.json")),
          arrays(path + "/golden.safetensors") {}

    bool stripped() const { return json.value("stripped", false); }
    std::int64_t context() const { return json.at("context"); }
    AttentionPattern dense() const { return {}; }
    AttentionPattern shifted() const { return {AttentionKind::shifted, json.at("group")}; }
    double number(const char* name) const { return json.at(name); }

    std::vector<std::int32_t> sequence(std::int64_t i) const {
        const HostTensor ids = arrays.find("input_ids").value();
        const auto* first = reinterpret_cast<const std::int64_t*>(ids.bytes) + i * context();
        return std::vector<std::int32_t>(first, first + context());
    }
    /// Empty without documents.
    std::vector<std::int64_t> document_starts() const {
        return json.at("documents").is_null() ? std::vector<std::int64_t>{}
                                              : json.at("documents").get<std::vector<std::int64_t>>();
    }
    std::vector<float> array(const std::string& name) const {
        const auto found = arrays.find(name);
        ensure(found && found->dtype == DType::float32, name.c_str());
        const auto* first = reinterpret_cast<const float*>(found->bytes);
        return std::vector<float>(first, first + found->count());
    }
    /// The names behind a prefix such as "s2.grad.".
    std::vector<std::string> names(const std::string& prefix) const {
        std::vector<std::string> out;
        for (const std::string& name : arrays.names())
            if (name.starts_with(prefix)) out.push_back(name.substr(prefix.size()));
        return out;
    }
    /// LoRA as the adapter has it, embedding and norms.
    TrainableSet adapter_trainables() const {
        TrainableSet set = open_adapter(path + "/adapter", config).trainables;
        set.method = Method::longlora;
        set.embedding = set.norm = true;
        return set;
    }
};

inline TrainableSet everything() {
    TrainableSet set;
    set.method = Method::full;
    return set;
}

/// The base model with everything trainable.
inline void load_base(Weights& weights, const Case& c) { load_model(weights, SafetensorsFolder(c.path), 1); }
/// The base model with its adapter.
inline void load_with_adapter(Weights& weights, const Case& c) {
    load_base(weights, c);
    load_adapter(weights, open_adapter(c.path + "/adapter", c.config));
}

}  // namespace longlora::golden
