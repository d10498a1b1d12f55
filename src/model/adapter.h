// Adapter: the contents of a PEFT LoRA adapter folder (or of LongLoRA's adapter with trainable_params), checked, and
// its values under our parameter names. This reads adapters; jobs/export/adapter.cpp writes them.
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
    TrainableSet trainables;  ///< rank, alpha, targets; embedding, norm and lm_head if the adapter has them
    std::map<std::string, HostTensor>
        values;  ///< by our parameter names (model.layers.0.self_attn.q_proj.lora_A.weight, model.norm.weight ...)
    std::optional<ModelConfig> config;  ///< config.json beside the adapter: extended context, rotary scaling
    std::vector<std::shared_ptr<SafetensorsFile>> files;  ///< the open files that `values` point into
};

/// Opens an adapter of the model `base`. Every tensor must fit this model; the message names one that does not. It
/// refuses what the program does not compute, and names the key: other peft types, bias, DoRA, rsLoRA, rank or alpha
/// patterns, subsets of layers, fan_in_fan_out, and LoRA or trained modules of other kinds. Values may be float16,
/// bfloat16, float32 or float64.
Adapter open_adapter(const std::string& path, const ModelConfig& base);
/// A hash of the names, types, shapes and values of the adapter's tensors.
std::string content_hash(const Adapter& adapter);
/// Copies the adapter's values (LoRA, embedding, norms) into the weights. The trainable set of the weights must
/// contain every LoRA pair of the adapter.
void load_adapter(Weights& weights, const Adapter& adapter);

}  // namespace longlora
