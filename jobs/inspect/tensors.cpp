// `longlora inspect` of safetensors: models, adapters and single files. Tensors that are alike in all layers share one
// line of the table.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "core/clock.h"
#include "io/content_hash.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "jobs/command_line/describe.h"
#include "jobs/inspect/kinds.h"
#include "model/adapter.h"
#include "model/model_files.h"

namespace longlora {
namespace {

/// "model.layers.12.mlp.up_proj.weight" -> "model.layers.*.mlp.up_proj.weight"
std::string pattern_of(const std::string& name) {
    const std::string key = "layers.";
    const std::size_t at = name.find(key);
    if (at == std::string::npos) return name;
    const std::size_t begin = at + key.size(), end = name.find_first_not_of("0123456789", begin);
    return end == std::string::npos || end == begin ? name : name.substr(0, begin) + "*" + name.substr(end);
}

struct Row {
    std::int64_t count = 0, bytes = 0;
};

std::string table(const SafetensorsFolder& files) {
    std::map<std::string, Row> rows;
    for (const std::string& name : files.names()) {
        const HostTensor t = files.get(name);
        Row& row = rows[text(name_of(t.dtype), " ", to_text(t.shape), "  ", pattern_of(name))];
        ++row.count;
        row.bytes += t.size_bytes();
    }
    constexpr std::size_t kMostRows = 30;
    std::vector<std::pair<std::string, Row>> shown(rows.begin(), rows.end());
    std::stable_sort(shown.begin(), shown.end(),
                     [](const auto& a, const auto& b) { return a.second.bytes > b.second.bytes; });
    std::string out;
    for (std::size_t i = 0; i < std::min(kMostRows, shown.size()); ++i) {
        const auto& [what, row] = shown[i];
        out += inspect_line(i ? "" : "tensors", text(row.count, " x ", what, "  ", bytes_text(row.bytes)));
    }
    if (shown.size() > kMostRows) out += inspect_line("", text("and ", shown.size() - kMostRows, " more kinds"));
    return out;
}

std::string totals(const SafetensorsFolder& files) {
    std::int64_t elements = 0, bytes = 0;
    for (const std::string& name : files.names()) {
        const HostTensor t = files.get(name);
        elements += t.count();
        bytes += t.size_bytes();
    }
    return inspect_line("holds",
                        text(grouped(elements), " values in ", files.names().size(), " tensors, ", files.files().size(),
                             files.files().size() == 1 ? " file, " : " files, ", bytes_text(bytes)));
}

template <class T> std::int64_t first_not_finite(const HostTensor& t) {
    const T* values = reinterpret_cast<const T*>(t.bytes);
    for (std::int64_t i = 0; i < t.count(); ++i)
        if (!std::isfinite(static_cast<double>(values[i]))) return i;
    return -1;
}

/// Checks that every value is finite, and gives the hash of the content. The format has no checksums to check.
std::string verify(const SafetensorsFolder& files) {
    for (const std::string& name : files.names()) {
        const HostTensor t = files.get(name);
        std::int64_t at = -1;
        if (t.dtype == DType::float32) at = first_not_finite<float>(t);
        else if (t.dtype == DType::bfloat16) at = first_not_finite<bf16>(t);
        else if (t.dtype == DType::float16) at = first_not_finite<fp16>(t);
        else if (t.dtype == DType::float64) at = first_not_finite<double>(t);
        require(at < 0, files.path(), ": element ", at, " of ", name, " is not finite");
    }
    return inspect_line("verified", "every value is finite (safetensors has no checksums)") +
           inspect_line("", "weights " + content_hash(files));
}

/// The other files in the folder that a user of the model needs.
std::string companions(const std::string& folder) {
    std::string names;
    for (const char* name : {"tokenizer.model", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
                             "chat_template.jinja"})
        if (file_exists(folder + "/" + name)) names += (names.empty() ? "" : ", ") + std::string(name);
    const bool tokenizer = file_exists(folder + "/tokenizer.model") || file_exists(folder + "/tokenizer.json");
    return inspect_line("other files",
                        (tokenizer ? "" : "no tokenizer" + std::string(names.empty() ? "" : ", ")) + names);
}

/// Compares the tensors with the configuration: a line that says what differs, or "".
std::string fit(const ModelConfig& config, const SafetensorsFolder& files) {
    std::int64_t missing = 0, other = 0;
    std::string example;
    for (const Parameter& p : list_parameters(config, nothing_trainable()).parameters) {
        const auto t = files.find(p.name);
        const bool wrong = t && !(t->shape == p.shape);
        missing += !t;
        other += wrong;
        if ((!t || wrong) && example.empty()) example = p.name;
    }
    if (!missing && !other) return "";
    return inspect_line("mismatch", text(missing, " tensors of the configuration are missing, ", other,
                                         " have another shape, such as ", example));
}

}  // namespace

std::string inspect_safetensors(const InspectOptions& options) {
    const SafetensorsFolder files(options.path);
    return "tensors " + options.path + "\n" + totals(files) + table(files) + (options.verify.on ? verify(files) : "");
}

std::string inspect_model(const InspectOptions& options) {
    const SafetensorsFolder files(options.path);
    std::string out = "model " + options.path + "\n";
    try {
        const ModelConfig config = read_config(options.path);
        const std::string mismatch = fit(config, files);
        out += inspect_line("model", describe_model(config)) + inspect_line("context", describe_context(config)) +
               mismatch;
        if (mismatch.empty()) check_model_files(files, config);
    } catch (const Error& error) {
        out += inspect_line("unusable", error.what());
    }
    return out + totals(files) + companions(options.path) + table(files) + (options.verify.on ? verify(files) : "");
}

std::string inspect_adapter(const InspectOptions& options) {
    const std::string &path = options.path, where = path + "/adapter_config.json";
    const Json json = read_json_file(where);
    require(json.is_object(), where, " is not a JSON object");
    const auto found = json.find("base_model_name_or_path");
    const std::string base = found != json.end() && found->is_string() ? found->get<std::string>() : "?";
    std::string out = "adapter " + path + "\n" + inspect_line("base model", base);
    // The configuration in the adapter's folder, or that of the base model, says which shapes are right.
    const std::string config = file_exists(path + "/config.json")   ? path
                               : file_exists(base + "/config.json") ? base
                                                                    : "";
    if (config.empty()) out += inspect_line("", "not found, so shapes are not compared with it");
    else {
        try {
            const ModelConfig model = read_config(config);
            const Adapter adapter = open_adapter(path, model);
            out += inspect_line("trained", describe_trainables(adapter.trainables)) +
                   inspect_line("context", describe_context(adapter.config));
        } catch (const Error& error) {
            out += inspect_line("unusable", error.what());
        }
    }
    const std::vector<std::string> tensors = adapter_files(path);
    require(!tensors.empty(), path, " has neither adapter_model.safetensors nor adapter_model.bin");
    for (const std::string& file : tensors) {
        const SafetensorsFolder files(file);
        out += totals(files) + table(files) + (options.verify.on ? verify(files) : "");
    }
    return out;
}

}  // namespace longlora
