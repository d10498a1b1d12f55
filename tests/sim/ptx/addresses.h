// Memory addresses of instructions: the windows of shared memory, local memory and parameters in the generic address
// space, and one access of a warp with its 32 addresses. The checks are in check_global.cpp, check_local.cpp and
// check_shared.cpp.
#pragma once

#include "sim/ptx/decoder.h"
#include "sim/ptx/warp.h"

namespace sim::ptx {

/// The windows lie above every address that a Linux process can map.
constexpr std::uint64_t kSharedWindow = std::uint64_t{1} << 60, kLocalWindow = std::uint64_t{2} << 60,
                        kParameterWindow = std::uint64_t{3} << 60, kWindowMask = std::uint64_t{15} << 60;

/// The state space that a generic address points into.
constexpr Space space_of(std::uint64_t address) {
    const std::uint64_t window = address & kWindowMask;
    return window == kSharedWindow      ? Space::shared
           : window == kLocalWindow     ? Space::local
           : window == kParameterWindow ? Space::parameter
                                        : Space::global;
}

/// Takes the state space modifier of an instruction; Space::generic if it has none.
Space take_space(Decoder& decoder);

/// One memory access of a warp: the bytes that each lane of `lanes` touches.
struct Access {
    alignas(32) std::uint64_t at[kLanes];  ///< addresses in their space; after a check, addresses of this process
    Lanes lanes = 0;
    unsigned bytes = 0;       ///< bytes of a lane; all elements of a vector count
    bool contiguous = false;  ///< all 32 lanes access consecutive addresses
};

/// read_only is ld.global.nc, which requires that the launch never writes the data. The strong uses are .volatile,
/// .relaxed, .acquire and .release accesses to global memory; they do not race with one another or with atomics. In
/// other state spaces such accesses count as plain ones.
enum class Use : std::uint8_t { read, read_only, strong_read, write, strong_write, atomic };
constexpr bool reads_only(Use use) { return use <= Use::strong_read; }
constexpr bool writes_only(Use use) { return use == Use::write || use == Use::strong_write; }
constexpr bool is_strong(Use use) { return use == Use::strong_read || use >= Use::strong_write; }

/// Values of Instruction::target: a load that may go through the cache for constant data (ld.global.nc), and a strong
/// load or store.
constexpr std::uint32_t kNonCoherent = 1, kStrong = 2;

/// Computes the addresses from base register and offset. Throws a Fault if the base register of one of the lanes was
/// never written.
void find_addresses(Warp& warp, const Instruction& instruction, Access& access);
/// Checks bounds, alignment, races and unwritten bytes of an access, counts the access, and turns its addresses into
/// addresses of this process.
void check_shared(Warp& warp, const Instruction& instruction, Access& access, Use use);
void check_global(Warp& warp, const Instruction& instruction, Access& access, Use use);
void check_local(Warp& warp, const Instruction& instruction, Access& access, Use use);
/// Checks an access to the parameters of the entry, which are read only and the same for all lanes.
void check_parameter(Warp& warp, Access& access, Use use);
/// Calls the check of the given space. For Space::generic the window of each lane's address decides; the lanes may
/// differ.
void check_access(Warp& warp, const Instruction& instruction, Access& access, Space space, Use use);

/// For cp.async. check_partial_source checks the source, of which each lane reads `bytes` bytes. check_flight checks
/// the target, whose addresses stay offsets, and marks it as in flight: no instruction may touch it until the copy
/// lands.
void check_partial_source(Warp& warp, const Instruction& instruction, Access& access, const std::uint32_t* bytes);
void check_flight(Warp& warp, const Access& access);
/// For ldmatrix: checks rows that are read for the whole warp.
void check_matrix_rows(Warp& warp, Access& access);

}  // namespace sim::ptx
