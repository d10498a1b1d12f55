// MachineModel: what the planner assumes of a machine, each figure with its source: speeds, links, memory, and what
// takes memory beside the arena. It is read from a TOML file; the files in jobs/machines are built into the program.
// Planning is in jobs/plan/time.h and jobs/plan/mesh.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace longlora {

/// A number and its source.
struct Figure {
    double value = 0;
    std::string source;
};

/// The link of one device to another, in one direction.
struct Link {
    Figure bandwidth, latency;  ///< bytes/s, seconds per message
};

/// Memory that something takes beside the arena and the pinned buffers.
struct OutsideEntry {
    std::string name;
    Figure bytes;
};

struct MachineModel {
    std::string name;
    Figure device_memory;                        ///< bytes; 0: the device uses the host's memory
    Figure bfloat16_flops, float32_flops;        ///< peak of matrix products, FLOP/s
    Figure memory_bandwidth;                     ///< bytes/s
    Figure host_bandwidth;                       ///< bytes/s each way between device and host memory
    Figure matmul_fraction, bandwidth_fraction;  ///< reached parts of the peaks
    Figure bfloat16_attention_fraction, float32_attention_fraction;  ///< of the peak of matrix products in that type
    Figure devices_per_node;  ///< 0: the cores of the computer that plans, which its ranks share
    Figure node_memory;       ///< host bytes of a node; 0: the host memory of the computer that plans
    Link inside_node, between_nodes;
    std::vector<OutsideEntry> outside_device, outside_host;  ///< per rank

    double flops_of(DType real) const { return (real == DType::bfloat16 ? bfloat16_flops : float32_flops).value; }
    double attention_fraction_of(DType real) const {
        return (real == DType::bfloat16 ? bfloat16_attention_fraction : float32_attention_fraction).value;
    }
    bool device_is_host() const { return device_memory.value == 0; }
    /// Sums over outside_device and outside_host.
    std::int64_t outside_device_bytes() const;
    std::int64_t outside_host_bytes() const;
};

/// Reads a built-in machine ("a100-80g", "h100", "cpu") or a file. An unknown, missing or impossible entry is an Error
/// that names it.
MachineModel read_machine(const std::string& name_or_file);
/// Reads a machine from the content of a file; `where` names the file in messages.
MachineModel parse_machine(const std::string& content, const std::string& where);
/// The names of the built-in machines: "a100-80g, cpu, h100".
std::string built_in_machines();

}  // namespace longlora
