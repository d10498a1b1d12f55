// Launch: the interface of the interpreter, which runs kernels from their PTX text on the CPU, 32 lanes at a time, and
// checks every access. It knows neither CUDA's runtime (tests/sim/runtime) nor this project: device memory is the
// address ranges of this process that the caller has registered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace sim::ptx {

/// An error of the program that the interpreter found: a race, an access out of bounds, an uninitialised read,
/// divergence, misalignment, an unknown instruction ... The sentence names the kernel, the block, the threads, the PTX
/// lines with their text and, where -lineinfo gave it, the source line.
struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Extent {
    unsigned x = 1, y = 1, z = 1;
    std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

/// The device memory that kernels may touch, with a shadow that records which bytes were ever written. Allocations
/// never overlap.
class GlobalMemory {
public:
    GlobalMemory();
    ~GlobalMemory();
    GlobalMemory(const GlobalMemory&) = delete;
    GlobalMemory& operator=(const GlobalMemory&) = delete;
    /// Registers memory that kernels may read and write within its bounds. None of its bytes count as written.
    void add(void* begin, std::size_t bytes);
    void remove(void* begin);
    /// Makes an allocation a heap, which the program divides into regions itself. Of a heap only its regions may be
    /// touched, within their bounds, and no byte of a new region counts as written.
    void make_heap(const void* begin);
    /// No part of the heap may be touched any more, until it is removed.
    void end_heap(const void* begin);
    void add_region(const void* begin, std::size_t bytes);
    void remove_region(const void* begin);

    bool contains(const void* begin, std::size_t bytes) const;
    /// For code that is not a kernel (copies, memsets, cuBLAS, NCCL): it calls `wrote` with the bytes that it writes,
    /// and require_written before it reads. The Fault names `who`.
    void wrote(const void* begin, std::size_t bytes);
    void require_written(const void* begin, std::size_t bytes, std::string_view who) const;

    /// The memory that may be touched now. Work that is queued now and runs later must be checked against it: call
    /// use(view) before it runs. Without a view, work is checked against what may be touched when it runs.
    struct View;
    std::shared_ptr<const View> view() const;
    void use(std::shared_ptr<const View> view);

    struct Shadow;
    Shadow& shadow() { return *shadow_; }

private:
    std::unique_ptr<Shadow> shadow_;
};

class Kernel;  // one .entry, decoded
class Module;  // one PTX text

/// Parses and decodes everything: an unknown instruction is a Fault with its text and line, even if it would never run.
std::shared_ptr<const Module> parse_module(std::string_view text, std::string name);
/// nullptr: the module has no such kernel.
const Kernel* find_kernel(const Module& module, std::string_view name);

struct Parameter {
    std::size_t offset = 0, bytes = 0;
};
std::span<const Parameter> parameters_of(const Kernel& kernel);
std::size_t static_shared_bytes_of(const Kernel& kernel);
/// The most threads of a block, from .maxntid (__launch_bounds__); 0: not given.
unsigned max_threads_of(const Kernel& kernel);

struct Launch {
    const Kernel* kernel = nullptr;
    Extent grid, block;
    std::size_t dynamic_shared_bytes = 0;
    std::vector<std::byte> parameters;  ///< laid out by parameters_of
    bool reversed = false;              ///< run blocks and warps in the reverse order
};

/// Sums over all launches of one kernel; tests/bench/roofline prints them.
struct Counts {
    std::uint64_t launches = 0, warp_instructions = 0;
    std::uint64_t block_threads = 0, dynamic_shared_bytes = 0;  ///< largest of any launch; run() sets them
    /// Ideal: without bank conflicts.
    std::uint64_t shared_requests = 0, shared_wavefronts = 0, shared_ideal_wavefronts = 0;
    /// Sectors have 32 bytes; ideal: bytes / 32 rounded up.
    std::uint64_t global_requests = 0, global_sectors = 0, global_ideal_sectors = 0;
    std::uint64_t global_read_bytes = 0, global_written_bytes = 0;
    std::map<std::string, std::uint64_t> by_opcode;  ///< warp instructions by "mma.sync", "ld.shared", ...
    /// By PTX line: worst wavefronts per ideal wavefront and worst sectors per ideal sector of one request.
    std::map<int, double> worst_bank_conflict, worst_sector_ratio;
};

/// Registers the variables of the kernel's module as device memory, unless they are registered already. Callers that
/// use views call it before view(); run() calls it for the others.
void add_variables(const Kernel& kernel, GlobalMemory& memory);
/// Runs all blocks; throws Fault. Deterministic: blocks and warps run in a fixed order.
void run(const Launch& launch, GlobalMemory& memory, Counts& counts);

}  // namespace sim::ptx
