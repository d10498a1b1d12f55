// Launch: THE interface of the interpreter, which runs kernels from their PTX text on the CPU, 32 lanes at a time, and
// checks every access. It knows nothing of CUDA's runtime (../runtime has that) nor of this project: device memory is
// address ranges of this process that somebody registered.
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

/// A program error that the interpreter found: race, bounds, uninitialised read, divergence, misalignment, unknown
/// instruction ... The sentence names the kernel, block, thread(s), PTX line(s) with text and, where -lineinfo gave it,
/// the source line.
struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Extent {
    unsigned x = 1, y = 1, z = 1;
    std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

/// The device memory that kernels may touch, with a shadow that knows which bytes were ever written. Allocations never
/// overlap.
class GlobalMemory {
public:
    GlobalMemory();
    ~GlobalMemory();
    GlobalMemory(const GlobalMemory&) = delete;
    GlobalMemory& operator=(const GlobalMemory&) = delete;
    /// Kernels may read and write it, bounds are its own; nothing of it counts as written.
    void add(void* begin, std::size_t bytes);
    void remove(void* begin);
    /// An allocation that a program shares out by itself: of a heap only its regions may be touched, bounds are theirs,
    /// and nothing of a new region counts as written.
    void make_heap(const void* begin);
    /// Nothing of it may be touched any more, until it is removed.
    void end_heap(const void* begin);
    void add_region(const void* begin, std::size_t bytes);
    void remove_region(const void* begin);

    bool contains(const void* begin, std::size_t bytes) const;
    /// Copies, memsets, cuBLAS, NCCL: what is not a kernel tells what it writes, and asks before it reads (Fault names
    /// `who`).
    void wrote(const void* begin, std::size_t bytes);
    void require_written(const void* begin, std::size_t bytes, std::string_view who) const;

    /// What may be touched now. Work that is queued now and runs later is to be checked against it: use(view) before it
    /// runs. Without one: what may be touched when it runs.
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

/// Parses and decodes everything: an instruction that is not known is a Fault with its text and line, even if it would
/// never run.
std::shared_ptr<const Module> parse_module(std::string_view text, std::string name);
/// nullptr: not there.
const Kernel* find_kernel(const Module& module, std::string_view name);

struct Parameter {
    std::size_t offset = 0, bytes = 0;
};
std::span<const Parameter> parameters_of(const Kernel& kernel);
std::size_t static_shared_bytes_of(const Kernel& kernel);
/// From .maxntid (__launch_bounds__); 0: not given.
unsigned max_threads_of(const Kernel& kernel);

struct Launch {
    const Kernel* kernel = nullptr;
    Extent grid, block;
    std::size_t dynamic_shared_bytes = 0;
    std::vector<std::byte> parameters;  ///< laid out by parameters_of
    bool reversed = false;              ///< blocks and warps run the other way round
};

/// Sums over all launches of one kernel; what tests/bench/cuda_roofline prints.
struct Counts {
    std::uint64_t launches = 0, warp_instructions = 0;
    std::uint64_t block_threads = 0, dynamic_shared_bytes = 0;  ///< the most of any launch; run() sets them
    std::uint64_t shared_requests = 0, shared_wavefronts = 0,
                  shared_ideal_wavefronts = 0;  ///< ideal: without bank conflicts
    std::uint64_t global_requests = 0, global_sectors = 0,
                  global_ideal_sectors = 0;  ///< 32-byte sectors; ideal: bytes / 32 rounded up
    std::uint64_t global_read_bytes = 0, global_written_bytes = 0;
    std::map<std::string, std::uint64_t> by_opcode;  ///< warp instructions by "mma.sync", "ld.shared", ...
    /// By PTX line: worst wavefronts per ideal wavefront and worst sectors per ideal sector of one request.
    std::map<int, double> worst_bank_conflict, worst_sector_ratio;
};

/// Makes the variables of the kernel's module known as memory, where they are not yet: before view() is called for its
/// launch. run() does it too, for those that use no view.
void add_variables(const Kernel& kernel, GlobalMemory& memory);
/// Runs all blocks; throws Fault. Deterministic: blocks and warps in a fixed order.
void run(const Launch& launch, GlobalMemory& memory, Counts& counts);

}  // namespace sim::ptx
