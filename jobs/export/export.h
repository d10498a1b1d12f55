// `longlora export`: makes a model or an adapter that other programs load from a checkpoint. It runs on one rank, on
// the host, with one tensor in memory at a time.
#pragma once

#include <string>

#include "jobs/command_line/option_table.h"

namespace longlora {

struct ExportOptions {
    std::string from;  ///< checkpoint file, or run folder (its newest checkpoint)
    std::string to;    ///< folder that does not exist yet; it appears when it is complete
    /// hf: merged model; peft: adapter; longlora: the files that LongLoRA's get_trainable_weights.py makes.
    std::string format = "hf";
    std::string dtype = {};  ///< bfloat16 or float32; empty: the type of the base model for hf, float32 for adapters
    std::string model = {};  ///< folder of the base model now; empty: the folder that it was trained from

    template <class V> void visit(V&& v) {
        constexpr auto free = OptionClass::free;
        v.positional("RUN", from, "checkpoint file, or run folder (its newest checkpoint)");
        v.positional("OUT", to, "folder to create; it must not exist yet");
        v("format", format, free,
          "hf (merged model) | peft (adapter) | longlora (adapter_model.bin and trainable_params.bin)");
        v("dtype", dtype, free, "bfloat16 | float32; default: the base model's with hf, float32 for adapters");
        v("model", model, free, "folder of the base model, if it was moved after training");
    }
};

/// Returns the exit code; throws an Error if the export fails.
int run_export(const ExportOptions& options);

}  // namespace longlora
