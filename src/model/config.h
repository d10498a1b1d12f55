// ModelConfig: what a Hugging Face config.json says about a Llama-family model. Anything we cannot compute exactly is
// refused by key. Rotary tables are model/rotary.h; which context a model is extended to is decided by extend_rope().
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
/// For people: "no rotary scaling", "rotary scaling linear by 8".
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
    /// The context length that the config covers: max_positions, except linear scaling without an original key:
    /// max_positions * factor.
    std::int64_t covered_positions() const;
};

/// `where` names the file in messages. Throws Error naming the key that is missing, wrong or not supported (biases,
/// sliding window, activations, experts, quantisation, unknown rope types, another architecture ...).
ModelConfig parse_config(const nlohmann::ordered_json& json, const std::string& where);
/// A folder (its config.json) or a file.
ModelConfig read_config(const std::filesystem::path& path);

/// What --rope, --rope-factor, --rope-theta and the yarn/llama3 parameters ask for; unset fields keep the config's.
struct RopeRequest {
    std::string kind = "auto";  ///< auto | keep | linear | ntk | yarn | llama3
    double factor = 0, theta = 0, low_freq_factor = 0, high_freq_factor = 0, beta_fast = 0, beta_slow = 0;
};

/// The config for training at `context` tokens (rules: design section 5): keeps the config's own kind (linear if it has
/// none) and raises its factor to context / original when the context exceeds what is covered; another kind on an
/// already scaled model is refused; a given factor wins; `keep` changes nothing. Also updates max_positions to what the
/// new scaling covers (dynamic NTK keeps it, as transformers computes from it) and `raw` in both spellings.
ModelConfig extend_rope(const ModelConfig& config, const RopeRequest& request, std::int64_t context);
/// For evaluate and the like: applies a request literally and never raises a factor by itself (auto = keep).
ModelConfig override_rope(const ModelConfig& config, const RopeRequest& request);
/// Writes config.rope, max_positions into config.raw in the spellings that transformers 4 and 5 read.
void write_rope(ModelConfig& config);

}  // namespace longlora
