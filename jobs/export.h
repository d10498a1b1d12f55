// `longlora export`: a checkpoint becomes a model or adapter that other programs load. On one rank, on the host, one tensor in memory at a time.
#pragma once

#include <string>

namespace longlora {

struct ExportOptions {
    std::string from;           ///< run folder (its newest checkpoint) or checkpoint file
    std::string to;             ///< a folder that does not exist yet; it appears when it is whole
    std::string format = "hf";  ///< hf: merged model; peft: adapter; longlora: what LongLoRA's get_trainable_weights.py gives
    std::string dtype = {};     ///< bfloat16 or float32; empty: the base model's own for hf, float32 for adapters
    std::string model = {};     ///< where the base model lies now; empty: where it was when training began
};

/// Returns the exit code; Errors are thrown.
int run_export(const ExportOptions& options);

}  // namespace longlora
