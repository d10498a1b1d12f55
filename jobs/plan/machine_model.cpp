// A machine file has sections of NAME = [number, "source"]. CLI11 parses it without types, so this file tells numbers
// and sources apart.
#include "jobs/plan/machine_model.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>
#include <sstream>
#include <utility>

#include "core/error.h"
#include "io/file.h"

namespace longlora {
namespace {

/// CMake writes this from jobs/machines/*.toml, so that the program needs no files beside it.
constexpr std::pair<const char*, const char*> kBuiltIn[] = {
#include "jobs/plan/machines.inc"
};

/// The figure that an entry sets, and the values that it may have.
struct Entry {
    std::string key;  // SECTION.NAME
    Figure* figure;
    double least, most;
};

std::vector<Entry> entries_of(MachineModel& m) {
    const double tiny = 1e-300, any = 1e30;
    return {{"device.memory", &m.device_memory, 0, any},
            {"device.bfloat16_flops", &m.bfloat16_flops, tiny, any},
            {"device.float32_flops", &m.float32_flops, tiny, any},
            {"device.memory_bandwidth", &m.memory_bandwidth, tiny, any},
            {"device.host_bandwidth", &m.host_bandwidth, tiny, any},
            {"device.matmul_fraction", &m.matmul_fraction, tiny, 1},
            {"device.bfloat16_attention_fraction", &m.bfloat16_attention_fraction, tiny, 1},
            {"device.float32_attention_fraction", &m.float32_attention_fraction, tiny, 1},
            {"device.bandwidth_fraction", &m.bandwidth_fraction, tiny, 1},
            {"node.devices", &m.devices_per_node, 0, 1 << 20},
            {"node.memory", &m.node_memory, 0, any},
            {"inside_node.bandwidth", &m.inside_node.bandwidth, tiny, any},
            {"inside_node.latency", &m.inside_node.latency, 0, 1},
            {"between_nodes.bandwidth", &m.between_nodes.bandwidth, tiny, any},
            {"between_nodes.latency", &m.between_nodes.latency, 0, 1}};
}

Figure figure_of(const std::vector<std::string>& inputs, const std::string& key, const std::string& where) {
    require(inputs.size() == 2 && !inputs[1].empty(), where, ": ", key, " must be [number, \"where it is from\"]");
    char* end = nullptr;
    const double value = std::strtod(inputs[0].c_str(), &end);
    while (*end == ' ') ++end;
    require(end != inputs[0].c_str() && *end == 0 && std::isfinite(value) && value >= 0, where, ": ", key, " is '",
            inputs[0], "'; write a finite number that is not negative");
    return {value, inputs[1]};
}

std::int64_t sum_of(const std::vector<OutsideEntry>& entries) {
    double bytes = 0;
    for (const auto& entry : entries) bytes += entry.bytes.value;
    return static_cast<std::int64_t>(bytes);
}

/// The entries of a section that takes any names ("outside_device.cuda_context"); nullptr for other sections.
std::vector<OutsideEntry>* outside_of(MachineModel& machine, const std::string& section) {
    return section == "outside_device" ? &machine.outside_device
           : section == "outside_host" ? &machine.outside_host
                                       : nullptr;
}

}  // namespace

std::int64_t MachineModel::outside_device_bytes() const { return sum_of(outside_device); }
std::int64_t MachineModel::outside_host_bytes() const { return sum_of(outside_host); }

MachineModel parse_machine(const std::string& content, const std::string& where) {
    MachineModel machine;
    const std::vector<Entry> entries = entries_of(machine);
    std::istringstream input(content);
    std::set<std::string> seen;
    for (const auto& item : CLI::ConfigTOML().from_config(input)) {
        if (item.name == "++" || item.name == "--") continue;  // begin and end of a section
        const std::string section = item.parents.empty() ? "" : item.parents.front(), key = item.fullname();
        require(seen.insert(key).second, where, ": ", key, " appears twice");
        if (key == "name") {
            machine.name = item.inputs.empty() ? "" : item.inputs[0];
            continue;
        }
        if (auto* outside = outside_of(machine, section)) {
            outside->push_back({item.name, figure_of(item.inputs, key, where)});
            require(outside->back().bytes.value < 1e18, where, ": ", key,
                    " is not below 1e18 bytes; write the memory of one rank");
            continue;
        }
        const auto entry = std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.key == key; });
        require(entry != entries.end(), where, ": a machine model has no entry '", key,
                "'; jobs/machines has examples");
        *entry->figure = figure_of(item.inputs, key, where);
        require(entry->figure->value >= entry->least && entry->figure->value <= entry->most, where, ": ", key, " is ",
                item.inputs[0], "; it must be ", entry->least > 0 ? "more than 0" : "at least 0", " and at most ",
                entry->most);
    }
    require(!machine.name.empty(), where, ": name is missing");
    for (const auto& entry : entries) require(seen.count(entry.key), where, ": ", entry.key, " is missing");
    require(machine.devices_per_node.value == std::floor(machine.devices_per_node.value), where,
            ": node.devices is not a whole number");
    require(!machine.device_is_host() || machine.outside_device.empty(), where,
            ": device.memory is 0, so [outside_device] must be empty; move its entries to [outside_host]");
    return machine;
}

MachineModel read_machine(const std::string& name_or_file) {
    for (const auto& [name, content] : kBuiltIn)
        if (name_or_file == name) return parse_machine(content, text("machine ", name));
    require(file_exists(name_or_file), "--machine ", name_or_file, " is neither a file nor one of ",
            built_in_machines());
    return parse_machine(read_text_file(name_or_file), name_or_file);
}

std::string built_in_machines() {
    std::string names;
    for (const auto& machine : kBuiltIn) names += (names.empty() ? "" : ", ") + std::string(machine.first);
    return names;
}

}  // namespace longlora
