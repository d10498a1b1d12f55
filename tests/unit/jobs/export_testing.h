// Writes a checkpoint from the trained values of a golden case, as the trainer would have written it. No tests here.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/content_hash.h"
#include "io/named_tensor_file.h"
#include "io/safetensors.h"
#include "model/parameters_json.h"
#include "run/checkpoint_files.h"
#include "tests/unit/io/io_testing.h"

namespace longlora::export_testing {

inline std::string golden(const std::string& name) { return std::string(SOURCE_FOLDER) + "/tests/golden/" + name; }

inline std::vector<float> floats_of(const HostTensor& t) {
    BOOST_REQUIRE(t.dtype == DType::float32);
    const auto* begin = reinterpret_cast<const float*>(t.bytes);
    return {begin, begin + t.count()};
}

inline std::vector<float> floats_of(const std::string& file, const std::string& name) {
    const SafetensorsFile tensors(file);
    const auto found = tensors.find(name);
    BOOST_REQUIRE_MESSAGE(found.has_value(), file << " has no " << name);
    return floats_of(*found);
}

/// Writes `values` (by parameter name) as masters, and zeros as moments. An empty `base` means trained from scratch.
inline void write_checkpoint(const std::string& path, const ModelConfig& config, const TrainableSet& set,
                             const std::map<std::string, std::vector<float>>& values, const std::string& base) {
    std::vector<NamedTensor> tensors;
    std::vector<std::vector<float>> contents;
    for (const Parameter& p : list_parameters(config, set).parameters) {
        if (!p.trainable) continue;
        BOOST_REQUIRE_MESSAGE(values.count(p.name), "no value for " << p.name);
        BOOST_REQUIRE_EQUAL(static_cast<std::int64_t>(values.at(p.name).size()), p.shape.count());
        for (const char* kind : {"master/", "moment1/", "moment2/"}) {
            tensors.push_back({kind + p.name, DType::float32, p.shape});
            contents.push_back(kind == std::string("master/") ? values.at(p.name)
                                                              : std::vector<float>(values.at(p.name).size(), 0.0f));
        }
    }
    Json attributes = {{"step", 10},
                       {"tokens_per_step", 192},
                       {"trainable", to_json(set)},
                       {"tokenizer", nullptr},
                       {"base_model", nullptr}};
    attributes["model_config"] = Json::parse(config.raw.dump());
    if (!base.empty()) attributes["base_model"] = {{"path", base}, {"hash", content_hash(SafetensorsFolder(base))}};
    const NamedTensorLayout layout =
        create_named_tensor_file(path, kCheckpointFormat, kCheckpointVersion, tensors, to_line(attributes));
    const FileHandle file = FileHandle::open_write(path);
    std::vector<ChecksumPiece> pieces;
    for (std::size_t i = 0; i < contents.size(); ++i)
        write_slice(file, layout, static_cast<std::int64_t>(i), 0, contents[i].data(),
                    4 * static_cast<std::int64_t>(contents[i].size()), pieces);
    write_checksums(file, layout, pieces);
}

/// The trainables of a golden case.
inline TrainableSet golden_trainables(const std::string& folder) {
    const Json lora = read_json_file(folder + "/golden.json")["lora"];
    TrainableSet set;
    set.lora_rank = lora["r"];
    set.lora_alpha = lora["alpha"];
    set.lora_targets.clear();
    std::string list;
    for (const Json& target : lora["targets"]) list += target.get<std::string>() + ",";
    set.lora_targets = lora_targets_of(list);
    return set;
}

inline std::map<std::string, std::vector<float>> golden_values(const std::string& folder) {
    const SafetensorsFile arrays(folder + "/golden.safetensors");
    std::map<std::string, std::vector<float>> values;
    const std::string prefix = "trained.";
    for (const std::string& name : arrays.names())
        if (name.starts_with(prefix)) values[name.substr(prefix.size())] = floats_of(*arrays.find(name));
    return values;
}

/// Writes to `path` the checkpoint of a golden case after its ten steps.
inline void write_golden_checkpoint(const std::string& path, const std::string& folder) {
    write_checkpoint(path, read_config(folder), golden_trainables(folder), golden_values(folder), folder);
}

}  // namespace longlora::export_testing
