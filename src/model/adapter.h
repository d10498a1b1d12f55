// Adapter: the contents of a PEFT LoRA adapter folder (or of LongLoRA's adapter with trainable_params), checked, and
// its values under our parameter names. This reads adapters; jobs/export/adapter.cpp writes them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/content_hash.h"
#include "model/parameters.h"
#include "model/weights.h"

namespace longlora {

struct Adapter {
    std::string path;
    TrainableSet trainables;  ///< rank, alpha, targets; embedding, norm and lm_head if the adapter has them
    std::map<std::string, HostTensor>
        values;  ///< by our parameter names (model.layers.0.self_attn.q_proj.lora_A.weight, model.norm.weight ...)
    /// The model with this adapter: config.json beside it (extended context, rotary scaling), or else that of the base
    /// model. Its vocabulary has grown if the adapter's embedding has more rows (vocabulary_growth.h).
    ModelConfig config;
    std::vector<std::shared_ptr<TensorFile>> files;  ///< the open files that `values` point into
    std::map<std::string, std::string> file_of;      ///< the path of the file of each of `values`
};

/// Opens an adapter of the model `base`. Every tensor must fit this model; the message names one that does not. It
/// refuses what the program does not compute, and names the key: other peft types, bias, DoRA, rsLoRA, rank or alpha
/// patterns, subsets of layers, fan_in_fan_out, and LoRA or trained modules of other kinds. Values may be float16,
/// bfloat16, float32 or float64.
Adapter open_adapter(const std::string& path, const ModelConfig& base);
/// The files of an adapter's tensors in the folder, as far as they are there: adapter_model, then trainable_params,
/// into which LongLoRA puts embedding and norms; .safetensors, or else PyTorch's .bin.
std::vector<std::string> adapter_files(const std::string& folder);
/// A hash of the names, types, shapes and values of the adapter's tensors, whose checksums are given.
std::string content_hash(const Adapter& adapter, const TensorChecksums& checksums);
/// Copies the adapter's values (LoRA, embedding, norms) into the weights. The trainable set of the weights must
/// contain every LoRA pair of the adapter. Reads only what this rank keeps, and shows it to `on_read`. This rank alone:
/// load_on_all_ranks.h also compares what the ranks read.
void load_adapter(Weights& weights, const Adapter& adapter, const ReadObserver& on_read = {});

}  // namespace longlora
