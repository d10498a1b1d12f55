// Totals: counts of what a process has done so far. Tests read them through probe.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "sim/ptx/launch.h"

namespace sim::runtime {

struct Totals {
    std::uint64_t allocations = 0;         ///< calls of cudaMalloc that succeeded
    std::uint64_t allocated_bytes = 0;     ///< device memory in use now
    std::uint64_t pinned_allocations = 0;  ///< cudaHostAlloc, cudaMallocHost, cudaHostRegister
    std::uint64_t copies = 0;              ///< copies that have run, of any direction
    std::uint64_t bytes_to_device = 0, bytes_to_host = 0, bytes_on_device = 0;
    std::uint64_t multiplications = 0;     ///< gemms of cuBLAS that have run
    std::uint64_t exchanges = 0;           ///< NCCL operations that have run; a group of sends and receives is one
    std::int64_t events = 0, handles = 0;  ///< events of the runtime and handles of cuBLAS that exist now
    std::map<std::string, ptx::Counts> by_kernel;  ///< by (mangled) name
};

/// Never destroyed, since operations still run and count while the process ends.
inline Totals& totals() {
    static Totals* const all = new Totals;
    return *all;
}

}  // namespace sim::runtime
