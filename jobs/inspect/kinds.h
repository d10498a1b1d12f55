// One function per kind of thing that inspect knows, each returning its screen. Which kind it is, jobs/inspect decides.
#pragma once

#include <string>

#include "jobs/inspect/inspect.h"

namespace longlora {

std::string inspect_token_file(const InspectOptions& options);
/// A checkpoint file, or a run folder by its newest one.
std::string inspect_checkpoint(const InspectOptions& options);
std::string inspect_model(const InspectOptions& options);
std::string inspect_adapter(const InspectOptions& options);
/// One file of tensors.
std::string inspect_safetensors(const InspectOptions& options);

/// "  label       content\n", the labels in one column.
std::string inspect_line(const std::string& label, const std::string& content);

}  // namespace longlora
