// ModelConfig: what a Hugging Face config.json says about a model of the Llama family. What we cannot compute exactly
// is refused, and the message names the key. extend_rope() decides the rotary scaling for a longer context. rotary.h
// computes the rotary tables.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "core/dtype.h"

namespace longlora {

enum class RopeKind { none, linear, dynamic, yarn, llama3 };
std::string_view name_of(RopeKind kind);
struct RopeScaling;
/// For messages: "no rotary scaling", "rotary scaling linear by 8".
std::string rope_text(const RopeScaling& rope);

/// Rotary scaling as transformers defines it (modeling_rope_utils), in both spellings of config.json.
struct RopeScaling {
    RopeKind kind = RopeKind::none;
    double theta = 10000;
    double factor = 1;
    std::int64_t original = 0;  ///< original_max_position_embeddings; 0 = the config does not say
    double low_freq_factor = 1, high_freq_factor = 4;             ///< llama3
    double beta_fast = 32, beta_slow = 1;                         ///< yarn
    double attention_factor = 0, mscale = 0, mscale_all_dim = 0;  ///< yarn; 0 = not given
    bool truncate = true;                                         ///< yarn
    bool operator==(const RopeScaling&) const = default;
};

struct ModelConfig {
    std::string model_type;  ///< "llama" or "mistral"
    std::int64_t hidden = 0, intermediate = 0, num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0,
                 vocabulary = 0;
    std::int64_t new_rows = 0;       ///< of the vocabulary: tokens that the base model lacks (vocabulary_growth.h)
    std::int64_t max_positions = 0;  ///< max_position_embeddings
    bool tied = false;
    double rms_norm_eps = 1e-6, initializer_range = 0.02;
    std::int64_t bos = -1, eos = -1;
    RopeScaling rope;
    nlohmann::ordered_json raw;  ///< config.json as read; exports change a copy of it

    /// original_max_position_embeddings if given, else max_position_embeddings.
    std::int64_t original_positions() const { return rope.original ? rope.original : max_positions; }
    /// The context length that the config covers: max_positions for llama3, else the larger of max_positions and
    /// original_positions() * factor.
    std::int64_t covered_positions() const;
    /// Whether max_positions can be the length before linear scaling (Vicuna-16k has 4096 and factor 4) or after it
    /// (deepseek-coder has 16384 and factor 4), since the config does not say. covered_positions() assumes "before",
    /// as transformers documents it.
    bool has_two_readings() const { return rope.kind == RopeKind::linear && rope.original == 0 && rope.factor != 1; }
};

/// `where` names the file in messages. Throws an Error that names the key that is missing, wrong or not supported
/// (biases, sliding window, activations, experts, quantisation, unknown rope types, another architecture ...).
ModelConfig parse_config(const nlohmann::ordered_json& json, const std::string& where);
/// path: a folder (with its config.json) or a file.
ModelConfig read_config(const std::filesystem::path& path);

/// What --rope, --rope-factor, --rope-theta, the parameters of yarn and llama3, and --rope-original ask for. Unset
/// fields (0) keep the config's values.
struct RopeRequest {
    std::string kind = "auto";  ///< auto | keep | linear | ntk | yarn | llama3
    double factor = 0, theta = 0, low_freq_factor = 0, high_freq_factor = 0, beta_fast = 0, beta_slow = 0;
    std::int64_t original = 0;  ///< the length before linear scaling, for a config that does not say it
};

/// The config for training at `context` tokens. `auto` keeps the config's own kind (linear if it has none), and if the
/// context exceeds what is covered, raises its factor to factor * context / covered. `keep` keeps kind and factor; only
/// max_positions follows. Another kind on a model that is already scaled is refused, and so is raising the factor of a
/// config that has two readings. A given factor wins. Updates max_positions, and `raw` in both spellings.
ModelConfig extend_rope(const ModelConfig& config, const RopeRequest& request, std::int64_t context);
/// For evaluate and the like: applies a request literally and never raises a factor by itself (without a factor, auto
/// keeps kind and factor).
ModelConfig override_rope(const ModelConfig& config, const RopeRequest& request);
/// Writes config.rope and config.max_positions into config.raw, in the spellings that transformers 4 and 5 read.
/// max_position_embeddings is what other programs compute the right context length from:
///     no scaling   the context         transformers, vLLM and llama.cpp take it as it is
///     linear       the original        vLLM and SGLang multiply it by the factor; transformers 4 documents it so, and
///                                      LongLoRA's and Vicuna's models have it so. llama.cpp takes it as it is, so
///                                      its users name the context (README.md, "Export")
///     dynamic      the original        transformers computes frequencies from it; vLLM multiplies it by the factor
///     yarn         the context         transformers compares it with original * factor; vLLM takes the one or the
///                                      other, by version
///     llama3       the context         vLLM and llama.cpp take it as it is
void write_rope(ModelConfig& config);

}  // namespace longlora
