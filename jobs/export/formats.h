// The three formats of `longlora export`. Each function fills one existing folder from a source; jobs/export/export.cpp
// calls it, and jobs/export/output_folder.h creates and renames the folder.
#pragma once

#include <string>

#include "jobs/export/source.h"

namespace longlora {

/// Writes config.json, generation_config.json, tokenizer files, and model.safetensors (or shards and their index).
void export_hf(const ExportSource& source, const std::string& folder, DType dtype);
/// Writes adapter_model.safetensors (with embedding and norms as modules_to_save), adapter_config.json and the extended
/// config.json.
void export_peft(const ExportSource& source, const std::string& folder, DType dtype);
/// Writes adapter_model.bin (LoRA), trainable_params.bin (all other trained parameters, if any), adapter_config.json
/// and the extended config.json.
void export_longlora(const ExportSource& source, const std::string& folder, DType dtype);

/// Writes config.json of the extended model, with rotary scaling in the spellings of transformers 4 and 5, and without
/// other keys that hold the old length. If `dtype` is empty, the type in the base model's configuration stays.
void write_config(const ModelConfig& config, const std::string& dtype, const std::string& folder);

}  // namespace longlora
