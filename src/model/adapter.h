// Adapter: what a PEFT LoRA adapter folder (or LongLoRA's adapter + trainable_params) says, checked, and its values by
// our parameter names. Reading only; writing adapters is jobs/export.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/parameters.h"
#include "model/weights.h"

namespace longlora {

struct Adapter {
    std::string path;
    TrainableSet trainables;  ///< rank, alpha, targets; embedding/norm/lm_head as the adapter carries them
    std::map<std::string, HostTensor>
        values;  ///< by our names (model.layers.0.self_attn.q_proj.lora_A.weight, model.norm.weight ...)
    std::optional<ModelConfig> config;  ///< config.json beside the adapter: the extended context and rotary scaling
    std::vector<std::shared_ptr<SafetensorsFile>> files;  ///< what `values` point into
};

/// Refuses by key what we do not compute: other peft types, bias, DoRA, rsLoRA, rank or alpha patterns, layer subsets,
/// fan_in_fan_out, foreign modules. float16, bfloat16, float32 and float64 values are read. `base` is the model it
/// belongs to: every tensor must fit, a misfit is named.
Adapter open_adapter(const std::string& path, const ModelConfig& base);
/// Puts the adapter's values over the weights (its LoRA, embedding, norms). The weights' trainable set must hold every
/// LoRA pair of the adapter.
void load_adapter(Weights& weights, const Adapter& adapter);

}  // namespace longlora
