// `longlora inspect`: prints the content of a token file, checkpoint, run, model, adapter or safetensors file on one
// screen. It changes no file. Whether a run is alive is shown by jobs/inspect/status.h.
#pragma once

#include <string>

#include "jobs/command_line/option_table.h"

namespace longlora {

struct InspectOptions {
    std::string path;
    Flag verify = {};  ///< read every byte: check checksums, or in formats without them that all values are finite

    template <class V> void visit(V&& v) {
        v.positional("PATH", path, "token file, checkpoint, run, model, adapter, .safetensors, .bin or config.json");
        v("verify", verify, OptionClass::free,
          "read every byte and check all checksums, or that all values are finite if the format has no checksums");
    }
};

/// Prints to stdout and returns the exit code. Throws an Error if the path cannot be read or verification fails.
int run_inspect(const InspectOptions& options);
/// The text that run_inspect prints.
std::string inspect_text(const InspectOptions& options);

}  // namespace longlora
