// `longlora inspect`: what is inside a token file, checkpoint, run, model, adapter or safetensors file, in one screen.
// It changes nothing.
#pragma once

#include <string>

#include "jobs/command_line/option_table.h"

namespace longlora {

struct InspectOptions {
    std::string path;
    Flag verify = {};  ///< read every byte: checksums where the format has them, otherwise that every value is finite

    template <class V> void visit(V&& v) {
        v.positional("PATH", path, "token file, checkpoint, run, model, adapter, .safetensors file or config.json");
        v("verify", verify, OptionClass::free,
          "read everything: all checksums, or where the format has none, that all values are finite");
    }
};

/// Prints to stdout and returns the exit code; what cannot be read, or fails verification, is an Error.
int run_inspect(const InspectOptions& options);
/// The text that run_inspect prints.
std::string inspect_text(const InspectOptions& options);

}  // namespace longlora
