// Golden cases (tests/golden/CASE), which Hugging Face transformers and peft computed: the options and arrays of a
// case, and our model set up in the same way. No tests here.
//
// Arrays of golden.safetensors (S sequences, N tokens, V vocabulary), float32 except input_ids:
//   input_ids (S,N) int64    the sequences
//   dense.logits (N,V)       base model, sequence 0, dense causal attention
//   dense.grad.NAME          gradient of its loss for every base parameter (full fine-tuning)
//   s2.logits (N,V)          base model + adapter, sequence 0, shifted sparse attention
//   s2.grad.NAME             gradient of its loss for every trainable (LoRA, embedding, norms)
//   trained.NAME             every trainable after ten steps of training
//   merged.logits (N,V)      trained and merged model, sequence 0, dense attention
//   merged.NAME              merged projection weights of layer 0
// Cases that golden.json calls "stripped" lack some of them; tests/golden/copy_golden.py says which.
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

/// The folder of the cases: $LONGLORA_GOLDEN if it is set (as for the complete cases), else tests/golden of the
/// repository.
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
    /// The first token of each document; empty when the case has no documents.
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
    /// The names of the arrays that begin with the prefix (such as "s2.grad."), without the prefix.
    std::vector<std::string> names(const std::string& prefix) const {
        std::vector<std::string> out;
        for (const std::string& name : arrays.names())
            if (name.starts_with(prefix)) out.push_back(name.substr(prefix.size()));
        return out;
    }
    /// What the case trains: LoRA as in its adapter, the embedding and the norms.
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

/// Loads the base model's weights (LoRA matrices, where the weights have any, from seed 1).
inline void load_base(Weights& weights, const Case& c) { load_model(weights, SafetensorsFolder(c.path), 1); }
/// Loads the base model and the case's adapter.
inline void load_with_adapter(Weights& weights, const Case& c) {
    load_base(weights, c);
    load_adapter(weights, open_adapter(c.path + "/adapter", c.config));
}

}  // namespace longlora::golden
