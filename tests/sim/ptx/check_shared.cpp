// Checks bounds and alignment of accesses to shared memory, and counts wavefronts. Races and reads of bytes never
// written are found in shared_cells.cpp.
#include <bit>

#include "sim/ptx/shared_memory.h"
#include "sim/ptx/statistics.h"

namespace sim::ptx {

namespace {

const char* verb(Use use) { return use == Use::read ? "reads " : use == Use::write ? "writes " : "changes "; }

void check_bounds(Warp& warp, const Access& access, Use use) {
    const std::size_t size = warp.block->shared->size();
    std::uint64_t highest = 0, all = 0;
    for (unsigned l = 0; l < kLanes; ++l) {
        const std::uint64_t at = access.lanes >> l & 1 ? access.at[l] : 0;
        highest = highest > at ? highest : at;
        all |= at;
    }
    if (highest + access.bytes <= size && all % access.bytes == 0 && highest < size) return;
    for (Lanes left = access.lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        const std::uint64_t at = access.at[l];
        const std::string what = verb(use) + std::to_string(access.bytes) + " bytes at byte " +
                                 std::to_string(static_cast<std::int64_t>(at)) + " of shared memory";
        if (at >= size || at + access.bytes > size)
            fault(warp, 1u << l, what + ", which has " + std::to_string(size) + " bytes: out of bounds");
        if (at % access.bytes != 0) fault(warp, 1u << l, what + ": misaligned");
    }
}

bool all_at_one_place(const Access& access) {
    const std::uint64_t first = access.at[std::countr_zero(access.lanes)];
    std::uint64_t other = 0;
    for (unsigned l = 0; l < kLanes; ++l) other |= access.lanes >> l & 1 ? access.at[l] ^ first : 0;
    return other == 0;
}

}  // namespace

void check_flight(Warp& warp, const Access& access) {
    check_bounds(warp, access, Use::write);
    count_shared(warp, access);
    for (Lanes left = access.lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        begin_flight(warp, access.at[l] / 4, access.bytes / 4, l);
    }
}

void check_matrix_rows(Warp& warp, Access& access) {
    check_bounds(warp, access, Use::read);
    count_shared(warp, access);
    const auto begin = reinterpret_cast<std::uintptr_t>(warp.block->shared->data());
    for (Lanes left = access.lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        touch_shared_words(warp, access.at[l] / 4, 4, kSeveralLanes, 4, Use::read);
        access.at[l] += begin;
    }
}

void check_shared(Warp& warp, const Instruction&, Access& access, Use use) {
    check_bounds(warp, access, use);
    count_shared(warp, access);
    const std::size_t words = access.bytes / 4;
    if (words > 0 && access.contiguous && use != Use::atomic) {
        touch_shared_words(warp, access.at[0] / 4, kLanes * words, 0, words, use);
    } else if (words > 0 && use == Use::read && std::popcount(access.lanes) > 1 && warp.lane_seen.empty() &&
               all_at_one_place(access)) {
        touch_shared_words(warp, access.at[std::countr_zero(access.lanes)] / 4, words, kSeveralLanes, words, use);
    } else {
        warp.store = use == Use::write ? &access : nullptr;
        for (Lanes left = access.lanes; left; left &= left - 1) {
            const unsigned l = static_cast<unsigned>(std::countr_zero(left));
            if (words > 0) touch_shared_words(warp, access.at[l] / 4, words, l, words, use);
            else touch_shared_bytes(warp, access.at[l], access.bytes, l, use);
        }
        warp.store = nullptr;
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(warp.block->shared->data());
    for (unsigned l = 0; l < kLanes; ++l) access.at[l] += begin;
}

}  // namespace sim::ptx
