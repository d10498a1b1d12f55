// The three formats of `export`, each filling one folder from a source. Called by jobs/export; the folder's coming and
// going is not theirs.
#pragma once

#include <string>

#include "jobs/export/source.h"

namespace longlora {

/// config.json, generation_config.json, tokenizer files, model.safetensors (or shards and their index).
void export_hf(const ExportSource& source, const std::string& folder, DType dtype);
/// adapter_model.safetensors with embedding and norms as modules_to_save, adapter_config.json, the extended
/// config.json.
void export_peft(const ExportSource& source, const std::string& folder, DType dtype);
/// adapter_model.bin (LoRA), trainable_params.bin (embedding, norms), adapter_config.json, the extended config.json.
void export_longlora(const ExportSource& source, const std::string& folder, DType dtype);

/// config.json of the extended model, rotary scaling in the spellings of transformers 4 and 5. `dtype` empty: the base
/// model's stays.
void write_config(const ModelConfig& config, const std::string& dtype, const std::string& folder);

}  // namespace longlora
