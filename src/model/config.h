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
    std::int64_t max_positions = 0;  ///< max_position_embeddings
    bool tied = false;
    double rms_norm_eps = 1e-6, initializer_range = 0.02;
    std::int64_t bos = -1, eos = -1;
    RopeScaling rope;
    nlohmann::ordered_json raw;  ///< config.json as read; exports change a copy of it

    /// original_max_position_embeddings if given, else max_position_embeddings.
    std::int64_t original_positions() const { return rope.original ? rope.original : max_positions; }
    /// The context length that the config covers: max_positions, or for linear scaling without an original key
    /// max_positions * factor.
    std::int64_t covered_positions() const;
};

/// `where` names the file in messages. Throws an Error that names the key that is missing, wrong or not supported
/// (biases, sliding window, activations, experts, quantisation, unknown rope types, another architecture ...).
ModelConfig parse_config(const nlohmann::ordered_json& json, const std::string& where);
/// path: a folder (with its config.json) or a file.
ModelConfig read_config(const std::filesystem::path& path);

/// What --rope, --rope-factor, --rope-theta and the parameters of yarn and llama3 ask for. Unset fields (0) keep the
/// config's values.
struct RopeRequest {
    std::string kind = "auto";  ///< auto | keep | linear | ntk | yarn | llama3
    double factor = 0, theta = 0, low_freq_factor = 0, high_freq_factor = 0, beta_fast = 0, beta_slow = 0;
};

/// The config for training at `context` tokens. `auto` keeps the config's own kind (linear if it has none) and raises
/// its factor to context / original if the context exceeds what is covered. `keep` keeps kind and factor. Another
/// kind on a model that is already scaled is refused. A given factor wins. Also sets max_positions to what the new
/// scaling covers (not for dynamic NTK, which transformers computes from it), and updates `raw` in both spellings.
ModelConfig extend_rope(const ModelConfig& config, const RopeRequest& request, std::int64_t context);
/// For evaluate and the like: applies a request literally and never raises a factor by itself (without a factor, auto
/// keeps kind and factor).
ModelConfig override_rope(const ModelConfig& config, const RopeRequest& request);
/// Writes config.rope and config.max_positions into config.raw, in the spellings that transformers 4 and 5 read.
void write_rope(ModelConfig& config);

}  // namespace longlora
