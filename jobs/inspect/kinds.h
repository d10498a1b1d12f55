// One function for each kind of thing that `longlora inspect` knows; each returns the text to print.
// jobs/inspect/inspect.cpp finds out the kind.
#pragma once

#include <string>

#include "jobs/inspect/inspect.h"

namespace longlora {

std::string inspect_token_file(const InspectOptions& options);
/// A checkpoint file, or the newest checkpoint of a run folder.
std::string inspect_checkpoint(const InspectOptions& options);
std::string inspect_model(const InspectOptions& options);
std::string inspect_adapter(const InspectOptions& options);
/// One .safetensors file.
std::string inspect_safetensors(const InspectOptions& options);

/// "  label       content\n"; the contents of all lines begin in one column.
std::string inspect_line(const std::string& label, const std::string& content);

}  // namespace longlora
