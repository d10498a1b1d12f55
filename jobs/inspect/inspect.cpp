// Finds out what kind of thing a path is by reading its content, and prints that kind's text. A file name decides only
// where the content cannot.
#include "jobs/inspect/inspect.h"

#include <cstdio>

#include "core/error.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "io/token_file.h"
#include "jobs/command_line/describe.h"
#include "jobs/inspect/kinds.h"
#include "run/checkpoint_files.h"

namespace longlora {
namespace {

constexpr const char* kKinds =
    "a token file, a checkpoint, a run folder, a model folder, an adapter folder, a .safetensors or .bin file, or a "
    "config.json";

bool is_hdf5(const std::string& path) {
    char bytes[8] = {};
    const FileHandle file = FileHandle::open_read(path);
    return file.read_some(bytes, 8, 0) == 8 && std::string(bytes, 8) == "\x89HDF\r\n\x1a\n";
}

std::string inspect_hdf5(const InspectOptions& options) {
    hdf5::File file = hdf5::File::open(options.path);
    const std::string format = file.has_attribute("format") ? file.text_attribute("format") : "";
    file.close();
    if (format == kTokenFileFormat) return inspect_token_file(options);
    if (format == kCheckpointFormat) return inspect_checkpoint(options);
    fail(text(options.path, " is an HDF5 file, but neither a token file nor a checkpoint of this program"));
}

std::string inspect_folder(const InspectOptions& options) {
    const std::string& path = options.path;
    if (file_exists(path + "/adapter_config.json")) return inspect_adapter(options);
    if (file_exists(path + "/config.json")) return inspect_model(options);
    if (file_exists(checkpoint_folder(path))) return inspect_checkpoint(options);
    fail(text("the folder ", path, " cannot be inspected; give ", kKinds));
}

std::string inspect_config(const InspectOptions& options) {
    const ModelConfig config = read_config(options.path);
    return "configuration " + options.path + "\n" + inspect_line("model", describe_model(config)) +
           inspect_line("context", describe_context(config)) +
           inspect_line("parameters", grouped(list_parameters(config, nothing_trainable()).total_elements()));
}

}  // namespace

std::string inspect_line(const std::string& label, const std::string& content) {
    std::string line = "  " + label;
    line.resize(std::max<std::size_t>(16, line.size() + 1), ' ');
    return line + content + "\n";
}

std::string inspect_text(const InspectOptions& options) {
    require(file_exists(options.path), options.path, " does not exist; give ", kKinds);
    if (is_folder(options.path)) return inspect_folder(options);
    if (is_hdf5(options.path)) return inspect_hdf5(options);
    if (options.path.ends_with(".safetensors") || options.path.ends_with(".bin")) return inspect_safetensors(options);
    if (options.path.ends_with(".json")) return inspect_config(options);
    fail(text(options.path, " cannot be inspected; give ", kKinds));
}

int run_inspect(const InspectOptions& options) {
    std::fputs(inspect_text(options).c_str(), stdout);
    return 0;
}

}  // namespace longlora
