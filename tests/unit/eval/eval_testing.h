// What the tests of evaluation share: a tiny model from a seed, and token files in a temporary folder. No tests here.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "eval/perplexity.h"
#include "eval/perplexity_windows.h"
#include "tests/support/test_device.h"

namespace eval_testing {

using namespace longlora;

constexpr std::int64_t kVocabulary = 61;

class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "longlora-eval-XXXXXX").string();
        ensure(::mkdtemp(name.data()) != nullptr, "a temporary folder");
        path_ = name;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

/// Writes documents of the given lengths to a token file; tokens are a pure function of position and seed.
inline std::shared_ptr<const TokenFile> token_file(const std::string& path, const std::vector<std::int64_t>& lengths,
                                                   std::uint64_t seed = 1) {
    std::vector<std::vector<std::int32_t>> documents;
    std::uint64_t at = 0;
    for (const std::int64_t length : lengths) {
        documents.emplace_back();
        for (std::int64_t t = 0; t < length; ++t)
            documents.back().push_back(static_cast<std::int32_t>(random_below(kVocabulary, seed, 7, at++)));
    }
    TokenFileInfo info;
    info.tokenizer_kind = "none";
    info.vocabulary = kVocabulary;
    write_token_file(path, info, documents);
    return std::make_shared<const TokenFile>(path);
}

inline ModelConfig tiny_config(const nlohmann::ordered_json& changes = nlohmann::ordered_json::object()) {
    nlohmann::ordered_json json = {{"model_type", "llama"},     {"hidden_size", 48},
                                   {"intermediate_size", 80},   {"num_hidden_layers", 2},
                                   {"num_attention_heads", 6},  {"num_key_value_heads", 2},
                                   {"vocab_size", kVocabulary}, {"max_position_embeddings", 64},
                                   {"initializer_range", 0.3}};
    json.update(changes);
    return parse_config(json, "tiny");
}

inline std::unique_ptr<Device> small_device() { return make_test_device(64 << 20); }

/// A device with a model of seed 3, of which nothing is trained: the whole model, or the part of a rank of a mesh.
struct TinyModel {
    std::unique_ptr<Device> device;
    parallel::MeshCommunicators mesh;
    std::unique_ptr<Weights> weights;
    explicit TinyModel(std::unique_ptr<Device> on = small_device(), const ModelConfig& config = tiny_config())
        : TinyModel(std::move(on), config, MPI_COMM_SELF, {}, 0) {}
    TinyModel(std::unique_ptr<Device> on, const ModelConfig& config, MPI_Comm ranks, parallel::MeshShape shape,
              int zero)
        : device(std::move(on)) {
        mesh = parallel::make_mesh(*device, ranks, shape);
        fill(config, zero);
    }
    /// The part of rank `rank` on a plan device.
    TinyModel(const ModelConfig& config, parallel::MeshShape shape, int rank, int zero)
        : device(make_test_plan(64 << 20)) {
        mesh = parallel::make_plan_mesh(*device, shape, rank);
        fill(config, zero);
    }

private:
    void fill(const ModelConfig& config, int zero) {
        WeightsOptions how;
        how.training = false;
        how.zero = zero;
        how.data = mesh.data.get();
        const auto stages = stages_of(config, mesh.shape.pipeline, {AttentionKind::dense, 0}, 16);
        weights = std::make_unique<Weights>(*device, config, nothing_trainable(), how,
                                            stages[static_cast<std::size_t>(mesh.at.pipeline)]);
        initialise_model(*weights, 3);
    }
};

}  // namespace eval_testing
