// `longlora export`: a checkpoint becomes a model or adapter that other programs load. On one rank, on the host, one
// tensor in memory at a time.
#pragma once

#include <string>

#include "jobs/command_line/option_table.h"

namespace longlora {

struct ExportOptions {
    std::string from;  ///< run folder (its newest checkpoint) or checkpoint file
    std::string to;    ///< a folder that does not exist yet; it appears when it is whole
    std::string format =
        "hf";  ///< hf: merged model; peft: adapter; longlora: what LongLoRA's get_trainable_weights.py gives
    std::string dtype = {};  ///< bfloat16 or float32; empty: the base model's own for hf, float32 for adapters
    std::string model = {};  ///< where the base model lies now; empty: where it was when training began

    template <class V> void visit(V&& v) {
        constexpr auto free = OptionClass::free;
        v.positional("RUN", from, "run folder (its newest checkpoint) or one checkpoint");
        v.positional("OUT", to, "folder to be made; it must not exist");
        v("format", format, free,
          "hf (merged model) | peft (adapter) | longlora (adapter_model.bin and trainable_params.bin)");
        v("dtype", dtype, free, "bfloat16 | float32; default: the base model's with hf, float32 for adapters");
        v("model", model, free, "where the base model lies now, if it was moved since training");
    }
};

/// Returns the exit code; Errors are thrown.
int run_export(const ExportOptions& options);

}  // namespace longlora
