// Computes the addresses of an access; checks accesses to local memory, to parameters and to generic addresses, where
// each lane's address says which memory it means.
#include <bit>
#include <cstring>

#include "sim/ptx/addresses.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

void find_addresses(Warp& warp, const Instruction& i, Access& access) {
    const void* base = warp.base[i.a >> 31] + (i.a & ~kConstant);
    if (const Lanes unknown = access.lanes & ~written(base)) fault(warp, unknown, "the address was never written");
    const auto offset = static_cast<std::uint64_t>(i.offset);
    if (i.flag) {
        const auto* narrow = static_cast<const std::uint32_t*>(base);
#pragma omp simd
        for (unsigned l = 0; l < kLanes; ++l) access.at[l] = std::uint64_t{narrow[l]} + offset;
    } else {
        const auto* wide = static_cast<const std::uint64_t*>(base);
#pragma omp simd
        for (unsigned l = 0; l < kLanes; ++l) access.at[l] = wide[l] + offset;
    }
    access.contiguous = false;
    if (access.lanes != kAll) return;
    std::uint64_t different = 0;
#pragma omp simd reduction(| : different)
    for (unsigned l = 0; l < kLanes; ++l) different |= access.at[l] ^ (access.at[0] + std::uint64_t{l} * access.bytes);
    access.contiguous = different == 0;
}

void check_local(Warp& warp, const Instruction&, Access& access, Use use) {
    const std::size_t size = warp.block->kernel->local_bytes;
    for (Lanes left = access.lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        const std::uint64_t at = access.at[l];
        const std::string_view verb = use == Use::read ? "reads " : "writes ";
        if (at >= size || at + access.bytes > size || at % access.bytes != 0)
            fault(warp, 1u << l,
                  std::string(verb) + std::to_string(access.bytes) + " bytes at byte " + std::to_string(at) +
                      " of local memory, which has " + std::to_string(size) +
                      (at % access.bytes ? " bytes: misaligned" : " bytes: out of bounds"));
        std::uint8_t* bytes = warp.local_written + l * size + at;
        if (use != Use::write && std::memchr(bytes, 0, access.bytes))
            fault(warp, 1u << l,
                  "reads byte " + std::to_string(at) + " of local memory, which was never written (uninitialised)");
        if (use != Use::read) std::memset(bytes, 1, access.bytes);
        access.at[l] = reinterpret_cast<std::uintptr_t>(warp.local + l * size + at);
    }
    access.contiguous = false;
}

void check_parameter(Warp& warp, Access& access, Use use) {
    const auto& bytes = warp.block->launch->parameters;
    if (use != Use::read) fault(warp, access.lanes, "writes parameters, which are read only");
    for (Lanes left = access.lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        const std::uint64_t at = access.at[l];
        if (at + access.bytes > bytes.size() || at % access.bytes != 0)
            fault(warp, 1u << l,
                  "reads " + std::to_string(access.bytes) + " bytes at byte " + std::to_string(at) + " of " +
                      std::to_string(bytes.size()) + " bytes of parameters");
        access.at[l] += reinterpret_cast<std::uintptr_t>(bytes.data());
    }
    access.contiguous = false;
}

namespace {

void check_generic(Warp& warp, const Instruction& i, Access& access, Use use) {
    const Lanes all = access.lanes;
    Lanes in[4] = {};  // global, shared, local, parameters
    for (Lanes left = all; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        const Space space = space_of(access.at[l]);
        in[space == Space::shared ? 1 : space == Space::local ? 2 : space == Space::parameter ? 3 : 0] |= 1u << l;
    }
    if (in[0] == all) return check_global(warp, i, access, use);
    const bool contiguous = access.contiguous;
    for (unsigned k = 0; k < 4; ++k) {
        if (!in[k]) continue;
        access.lanes = in[k];
        access.contiguous = contiguous && in[k] == all;
        if (k > 0)
            for (Lanes left = in[k]; left; left &= left - 1) access.at[std::countr_zero(left)] &= ~kWindowMask;
        Access part = access;
        k == 0   ? check_global(warp, i, part, use)
        : k == 1 ? check_shared(warp, i, part, use)
        : k == 2 ? check_local(warp, i, part, use)
                 : check_parameter(warp, part, use);
        for (Lanes left = in[k]; left; left &= left - 1)
            access.at[std::countr_zero(left)] = part.at[std::countr_zero(left)];
        access.contiguous = part.contiguous;
    }
    access.lanes = all;
    access.contiguous = access.contiguous && in[1] == all;
}

}  // namespace

void check_access(Warp& warp, const Instruction& i, Access& access, Space space, Use use) {
    switch (space) {
        case Space::generic:
            return check_generic(warp, i, access, use);
        case Space::shared:
            return check_shared(warp, i, access, use);
        case Space::local:
            return check_local(warp, i, access, use);
        case Space::parameter:
            return check_parameter(warp, access, use);
        default:
            return check_global(warp, i, access, use);
    }
}

}  // namespace sim::ptx
