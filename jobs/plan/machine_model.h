// MachineModel: what a planner assumes of a machine - speeds, links, memory, and what takes memory beside our arena -
// each figure with its source. Read from a TOML file; three are built in (jobs/machines). No planning here; that is
// plan_time.h and plan_mesh.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace longlora {

/// A number and where it is from.
struct Figure {
    double value = 0;
    std::string source;
};

/// Of one device, in one direction.
struct Link {
    Figure bandwidth, latency;  ///< bytes/s, seconds per message
};

/// Memory that is taken beside arena and pinned buffers.
struct OutsideEntry {
    std::string name;
    Figure bytes;
};

struct MachineModel {
    std::string name;
    Figure device_memory;                        ///< bytes; 0: the device's memory is the host's
    Figure bfloat16_flops, float32_flops;        ///< peak of matrix products, FLOP/s
    Figure memory_bandwidth;                     ///< bytes/s
    Figure host_bandwidth;                       ///< bytes/s each way between the device and its computer's memory
    Figure matmul_fraction, bandwidth_fraction;  ///< of the peaks, that are reached
    Figure bfloat16_attention_fraction, float32_attention_fraction;  ///< of the peak of matrix products in that type
    Figure devices_per_node;  ///< 0: the cores of the computer that plans, which its ranks share
    Figure node_memory;       ///< host bytes of a node; 0: those of the computer that plans
    Link inside_node, between_nodes;
    std::vector<OutsideEntry> outside_device, outside_host;  ///< per rank

    double flops_of(DType real) const { return (real == DType::bfloat16 ? bfloat16_flops : float32_flops).value; }
    double attention_fraction_of(DType real) const {
        return (real == DType::bfloat16 ? bfloat16_attention_fraction : float32_attention_fraction).value;
    }
    bool device_is_host() const { return device_memory.value == 0; }
    /// Sums of the entries.
    std::int64_t outside_device_bytes() const;
    std::int64_t outside_host_bytes() const;
};

/// "a100-80g", "h100", "cpu", or a file. Unknown, missing and impossible entries are refused by name.
MachineModel read_machine(const std::string& name_or_file);
/// The same from a file's content; `where` names it in messages.
MachineModel parse_machine(const std::string& content, const std::string& where);
/// "a100-80g, cpu, h100".
std::string built_in_machines();

}  // namespace longlora
