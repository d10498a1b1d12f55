// Addresses: the windows of shared memory, local memory and parameters in the generic space, and the 32 addresses of
// one access.
#pragma once

#include "sim/ptx/decoder.h"
#include "sim/ptx/warp.h"

namespace sim::ptx {

/// Beyond anything that a process of Linux maps.
constexpr std::uint64_t kSharedWindow = std::uint64_t{1} << 60, kLocalWindow = std::uint64_t{2} << 60,
                        kParameterWindow = std::uint64_t{3} << 60, kWindowMask = std::uint64_t{15} << 60;

/// Of a generic address.
constexpr Space space_of(std::uint64_t address) {
    const std::uint64_t window = address & kWindowMask;
    return window == kSharedWindow      ? Space::shared
           : window == kLocalWindow     ? Space::local
           : window == kParameterWindow ? Space::parameter
                                        : Space::global;
}

/// The state space modifier of an instruction; generic: there is none.
Space take_space(Decoder& decoder);

/// One access of a warp: what each of `lanes` touches.
struct Access {
    alignas(32) std::uint64_t at[kLanes];  ///< addresses in their space; after a check: of this process
    Lanes lanes = 0;
    unsigned bytes = 0;       ///< per lane, all elements of a vector
    bool contiguous = false;  ///< all 32 lanes, one after another
};

/// read_only: ld.global.nc, of what nobody may write during the launch. strong_: .volatile, .relaxed, .acquire,
/// .release, which are no race with one another nor with atomics; in global memory only, elsewhere they are plain.
enum class Use : std::uint8_t { read, read_only, strong_read, write, strong_write, atomic };
constexpr bool reads_only(Use use) { return use <= Use::strong_read; }
constexpr bool writes_only(Use use) { return use == Use::write || use == Use::strong_write; }
constexpr bool is_strong(Use use) { return use == Use::strong_read || use >= Use::strong_write; }

/// Instruction::target of a load that may go through the cache for constant data, and of strong loads and stores.
constexpr std::uint32_t kNonCoherent = 1, kStrong = 2;

/// Base register and offset; faults if a lane's base was never written.
void find_addresses(Warp& warp, const Instruction& instruction, Access& access);
/// Checks bounds, alignment, races and written bytes of an access, counts it, and turns its addresses into those of
/// this process.
void check_shared(Warp& warp, const Instruction& instruction, Access& access, Use use);
void check_global(Warp& warp, const Instruction& instruction, Access& access, Use use);
void check_local(Warp& warp, const Instruction& instruction, Access& access, Use use);
/// Parameters of the entry: read only, the same for all lanes.
void check_parameter(Warp& warp, Access& access, Use use);
/// By its space; generic ones by each lane's window, where lanes may differ.
void check_access(Warp& warp, const Instruction& instruction, Access& access, Space space, Use use);

/// cp.async: the source, of which each lane reads `bytes` bytes; the target, which stays an offset, and which nobody
/// may touch from now on.
void check_partial_source(Warp& warp, const Instruction& instruction, Access& access, const std::uint32_t* bytes);
void check_flight(Warp& warp, const Access& access);
/// ldmatrix: rows that are read for the whole warp.
void check_matrix_rows(Warp& warp, Access& access);

}  // namespace sim::ptx
