// Checks accesses to global memory: bounds, alignment, bytes never written, and races between warps of a block and
// between blocks of a launch. Time is a tick that increases at every barrier and every block and never decreases. An
// access of another block of this launch is never ordered before this one. An access of the same block is, if it came
// before a barrier that this warp has passed (warp.seen). Lanes of one warp are not told apart here; in shared memory
// they are (shared_cells.cpp).
#include <bit>

#include "sim/ptx/global_cells.h"
#include "sim/ptx/global_shadow.h"
#include "sim/ptx/statistics.h"

namespace sim::ptx {

namespace {

std::string offset_text(const GlobalRange& range, std::uintptr_t address) {
    return "byte " + std::to_string(address - range.begin) + " of an allocation of " +
           std::to_string(range.end - range.begin) + " bytes";
}

/// Checks bounds and alignment of one lane.
const GlobalRange& range_of(Warp& warp, const Access& access, unsigned l, Use use) {
    const char* verb = reads_only(use) ? "reads " : writes_only(use) ? "writes " : "changes ";
    const std::uint64_t at = access.at[l];
    const GlobalRange* range = warp.block->global->find(at, access.bytes);
    if (range && at % access.bytes == 0) return *range;
    char text[32];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(at));
    if (!range)
        fault(warp, 1u << l,
              verb + std::to_string(access.bytes) + " bytes at " + text + ", which is not device memory" +
                  place_text(*warp.block->global, at) + ": out of bounds");
    fault(warp, 1u << l, verb + std::to_string(access.bytes) + " bytes at " + text + ": misaligned");
}

void require_lane_written(Warp& warp, const GlobalRange& range, const Access& access, unsigned l) {
    const auto* bits = range.written.get();
    if (!all_set(bits, access.at[l] - range.base, access.bytes))
        fault(warp, 1u << l, "reads " + offset_text(range, access.at[l]) + ", which was never written (uninitialised)");
}

/// If all lanes lie side by side inside of one range: checks bounds, alignment and written bytes of all at once.
/// Otherwise returns false.
bool check_side_by_side(Warp& warp, Access& access, Use use) {
    const std::uintptr_t first = access.at[0];
    const std::size_t total = std::size_t{kLanes} * access.bytes;
    const GlobalRange* range = warp.block->global->find(first, total);
    if (!range || first % access.bytes != 0 || use == Use::atomic) return false;
    auto* bits = range->written.get();
    if (reads_only(use) && !all_set(bits, first - range->base, total)) return false;
    if (first % 4 != 0 || access.bytes < 4) {
        if (writes_only(use)) set_bits(bits, first - range->base, total);
        touch_partial(warp, *range, first, total, use);
        return true;
    }
    if (writes_only(use)) set_bits(bits, first - range->base, total);
    touch_words(warp, *range, range->word(first), total / 4, use);
    return true;
}

}  // namespace

void check_partial_source(Warp& warp, const Instruction& i, Access& access, const std::uint32_t* bytes) {
    const Access whole = access;
    bool all = true;
    for (Lanes left = access.lanes; left; left &= left - 1) all &= bytes[std::countr_zero(left)] == access.bytes;
    if (all) return check_global(warp, i, access, Use::read);
    count_global(warp, access, Use::read);
    for (Lanes left = access.lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        if (whole.at[l] % whole.bytes != 0) range_of(warp, whole, l, Use::read);
        access.bytes = bytes[l];
        const GlobalRange* range = warp.block->global->find(access.at[l], access.bytes);
        if (!range) range_of(warp, access, l, Use::read);
        require_lane_written(warp, *range, access, l);
        touch_partial(warp, *range, access.at[l], access.bytes, Use::read);
    }
    access.bytes = whole.bytes;
}

void check_global(Warp& warp, const Instruction& i, Access& access, Use use) {
    if (use == Use::read && i.target == kNonCoherent) use = Use::read_only;
    if (i.target == kStrong && use != Use::atomic) use = use == Use::read ? Use::strong_read : Use::strong_write;
    count_global(warp, access, use);
    if (access.contiguous && check_side_by_side(warp, access, use)) return;
    for (Lanes left = access.lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        const GlobalRange& range = range_of(warp, access, l, use);
        if (!writes_only(use)) require_lane_written(warp, range, access, l);
        if (!reads_only(use)) set_bits(range.written.get(), access.at[l] - range.base, access.bytes);
        if (access.bytes >= 4) touch_words(warp, range, range.word(access.at[l]), access.bytes / 4, use);
        else touch_partial(warp, range, access.at[l], access.bytes, use);
    }
}

}  // namespace sim::ptx
