// `longlora inspect` of a checkpoint: prints its step, what the run trains, the base model and the options.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/clock.h"
#include "io/file.h"
#include "io/named_tensor_file.h"
#include "jobs/command_line/describe.h"
#include "jobs/inspect/kinds.h"
#include "model/parameters_json.h"
#include "run/checkpoint_files.h"
#include "run/folder.h"

namespace longlora {
namespace {

/// Writes {"a": 1, "b": "x"} as "a 1, b x", in lines of at most kWidth characters where possible.
std::string options_lines(const std::string& label, const Json& options) {
    constexpr std::size_t kWidth = 110;
    std::string out, line;
    const auto end_line = [&] {
        if (!line.empty()) out += inspect_line(out.empty() ? label : "", line);
        line.clear();
    };
    if (!options.is_object()) return out;
    for (const auto& [name, value] : options.items()) {
        std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
        if (shown.size() > 48) shown = shown.substr(0, 45) + "...";
        const std::string part = name + " " + (shown.empty() ? "-" : shown);
        if (!line.empty() && line.size() + part.size() > kWidth) end_line();
        line += (line.empty() ? "" : ", ") + part;
    }
    end_line();
    return out;
}

/// One line for each group of parameters: how many of them are trained.
std::string groups(const ParameterList& list, const NamedTensorReader& reader) {
    std::string out;
    const std::pair<ParameterGroup, const char*> kGroups[] = {{ParameterGroup::lora, "LoRA"},
                                                              {ParameterGroup::embedding, "embedding"},
                                                              {ParameterGroup::norm, "norms"},
                                                              {ParameterGroup::weight, "matrices"}};
    for (const auto& [group, name] : kGroups) {
        std::int64_t tensors = 0, elements = 0;
        for (const Parameter& p : list.parameters) {
            if (!p.trainable || p.group != group) continue;
            require(reader.has("master/" + p.name), reader.path(), " has no tensor master/", p.name);
            ++tensors;
            elements += p.shape.count();
        }
        if (tensors)
            out += inspect_line(
                "", text(grouped(elements), " in ", grouped(tensors), tensors == 1 ? " tensor: " : " tensors: ", name));
    }
    return out;
}

std::string base_model(const Json& attributes) {
    const auto base = attributes.find("base_model");
    if (base == attributes.end() || !base->is_object()) return inspect_line("base model", "none, trained from scratch");
    const std::string path = base->value("path", std::string("?")), hash = base->value("hash", std::string("?"));
    return inspect_line("base model", path + (is_folder(path) ? "" : "  (not found)")) +
           inspect_line("", "weights " + hash);
}

void verify_finite(const NamedTensorReader& reader) {
    constexpr std::int64_t kPiece = std::int64_t{1} << 20;
    std::vector<float> values;
    for (const TensorEntry& entry : reader.entries()) {
        if (entry.dtype != DType::float32) continue;
        for (std::int64_t begin = 0; begin < entry.shape.count(); begin += kPiece) {
            values.resize(std::min(kPiece, entry.shape.count() - begin));
            reader.read(entry.name, begin, values.size(), values.data());
            for (std::size_t i = 0; i < values.size(); ++i)
                require(std::isfinite(values[i]), reader.path(), ": element ", begin + static_cast<std::int64_t>(i),
                        " of ", entry.name, " is not finite");
        }
    }
}

/// Verifies the other checkpoints of a run, and compares its base model with the checksums that the run's first start
/// recorded.
std::string verify_rest_of_run(const std::string& run, const std::string& newest, const Json& attributes) {
    std::string out;
    std::size_t others = 0;
    for (const CheckpointFile& file : list_checkpoints(run)) {
        if (file.path == newest) continue;
        verify_checkpoint(file.path);
        ++others;
    }
    if (others)
        out +=
            inspect_line("", text("also verified: ", others, " earlier ", others == 1 ? "checkpoint" : "checkpoints"));
    const TensorChecksums was = recorded_checksums(run);
    const auto base = attributes.find("base_model");
    const std::string model = base != attributes.end() && base->is_object() ? base->value("path", std::string()) : "";
    if (was.empty() || !is_folder(model)) return out;
    const SafetensorsFolder files(model);
    const std::string difference = first_difference(files, was, tensor_checksums(files));
    require(difference.empty(), "the base model of ", run, " has changed: ", difference);
    return out + inspect_line("", "the base model is the same as at the first start");
}

}  // namespace

std::string inspect_checkpoint(const InspectOptions& options) {
    const std::string path = newest_checkpoint(options.path);
    const NamedTensorReader reader(path, kCheckpointFormat, kCheckpointVersion);
    const Json attributes = parse_json(reader.attributes(), path);
    require_step_of_name(path, attributes);
    const ModelConfig config = parse_config(nlohmann::ordered_json(member(attributes, "model_config", path)), path);
    const TrainableSet set = trainables_of(member(attributes, "trainable", path), path);
    const ParameterList list = list_parameters(config, set);
    std::string out;
    if (path != options.path) {
        const std::size_t n = list_checkpoints(options.path).size();
        out += text("run ", options.path, ", ", n, n == 1 ? " checkpoint\n" : " checkpoints\n");
    }
    out += "checkpoint " + path + "\n";
    const std::int64_t step = get_integer(attributes, "step", path),
                       step_tokens = get_integer(attributes, "tokens_per_step", path);
    out += inspect_line("step", text(grouped(step), ", ", grouped(step * step_tokens), " tokens seen, ",
                                     bytes_text(FileHandle::open_read(path).size())));
    out += inspect_line("model", describe_model(config)) + inspect_line("context", describe_context(config)) +
           base_model(attributes);
    out += inspect_line("trained", describe_trainables(set));
    const double percent =
        100 * static_cast<double>(list.trainable_elements()) / static_cast<double>(list.total_elements());
    char share[32];
    std::snprintf(share, sizeof share, "%.3g", percent);
    out += inspect_line("", text(grouped(list.trainable_elements()), " of ", grouped(list.total_elements()),
                                 " parameters (", share, " %)")) +
           groups(list, reader);
    if (const auto found = attributes.find("options"); found != attributes.end() && found->is_object())
        for (const char* kind : {"identity", "schedule", "free"})
            if (found->contains(kind)) out += options_lines(kind, (*found)[kind]);
    if (!options.verify.on) return out;
    reader.verify_all();
    verify_finite(reader);
    out += inspect_line("verified", "every block matches its checksum, every value is finite");
    return path == options.path ? out : out + verify_rest_of_run(options.path, path, attributes);
}

}  // namespace longlora
