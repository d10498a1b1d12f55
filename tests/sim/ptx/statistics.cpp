// Counts bank conflicts and sectors of single requests. Sums over launches are in counts.cpp.
#include "sim/ptx/statistics.h"

#include <algorithm>
#include <bit>

namespace sim::ptx {

namespace {

/// The largest number of distinct units that the lanes of `lanes`, a part of a warp, access in one set of banks. A lane
/// accesses a unit of 4, 8 or 16 aligned bytes, in 1, 2 or 4 banks.
unsigned conflicts(const std::uint64_t* offsets, Lanes lanes, unsigned unit) {
    const unsigned sets = 128 / unit, shift = static_cast<unsigned>(std::countr_zero(unit));
    std::uint64_t first_of[32], more[32][32];
    std::uint32_t taken = 0;
    std::uint8_t number[32] = {};
    unsigned most = 1;
    for (; lanes; lanes &= lanes - 1) {
        const std::uint64_t at = offsets[std::countr_zero(lanes)] >> shift;
        const auto set = static_cast<unsigned>(at) & (sets - 1);
        if (!(taken >> set & 1)) {
            taken |= 1u << set;
            first_of[set] = at;
        } else if (first_of[set] != at &&
                   std::find(more[set], more[set] + number[set], at) == more[set] + number[set]) {
            more[set][number[set]++] = at;
            most = std::max<unsigned>(most, number[set] + 1u);
        }
    }
    return most;
}

void note_worst(double& worst, std::uint64_t number, std::uint64_t ideal) {
    if (ideal > 0) worst = std::max(worst, static_cast<double>(number) / static_cast<double>(ideal));
}

}  // namespace

Wavefronts wavefronts_of(const std::uint64_t* offsets, Lanes lanes, unsigned bytes) {
    const unsigned unit = std::max(4u, bytes), lanes_at_once = 128 / unit;
    Wavefronts result;
    for (unsigned first = 0; first < kLanes; first += lanes_at_once) {
        const Lanes part = lanes & (lanes_at_once == kLanes ? kAll : ((1u << lanes_at_once) - 1) << first);
        if (!part) continue;
        ++result.ideal;
        result.number += conflicts(offsets, part, unit);
    }
    return result;
}

void count_shared(Warp& warp, const Access& access) {
    Wavefronts w;
    if (access.contiguous && access.at[0] % 4 == 0) w.number = w.ideal = std::max(1u, kLanes * access.bytes / 128);
    else w = wavefronts_of(access.at, access.lanes, access.bytes);
    Counts& counts = *warp.block->counts;
    ++counts.shared_requests;
    counts.shared_wavefronts += w.number, counts.shared_ideal_wavefronts += w.ideal;
    if (w.number > w.ideal) note_worst(warp.block->worst_bank_conflict[warp.pc], w.number, w.ideal);
}

void count_global(Warp& warp, const Access& access, Use use) {
    Counts& counts = *warp.block->counts;
    std::uint64_t sectors = 0, distinct = 0;
    const auto number = static_cast<unsigned>(std::popcount(access.lanes));
    if (access.contiguous) {
        const std::uint64_t first = access.at[0], last = first + std::uint64_t{kLanes} * access.bytes - 1;
        sectors = last / 32 - first / 32 + 1;
        distinct = std::uint64_t{kLanes} * access.bytes;
    } else {
        std::uint64_t places[kLanes];
        unsigned n = 0;
        bool in_order = true;
        for (Lanes left = access.lanes; left; left &= left - 1) {
            places[n] = access.at[std::countr_zero(left)];
            in_order &= n == 0 || places[n - 1] <= places[n];
            ++n;
        }
        if (!in_order) std::sort(places, places + n);
        for (unsigned k = 0; k < n; ++k) {
            sectors += k == 0 || places[k - 1] / 32 != places[k] / 32;
            distinct += k == 0 || places[k - 1] != places[k] ? access.bytes : 0;
        }
    }
    const std::uint64_t ideal = (distinct + 31) / 32;
    ++counts.global_requests;
    counts.global_sectors += sectors, counts.global_ideal_sectors += ideal;
    if (!writes_only(use)) counts.global_read_bytes += std::uint64_t{number} * access.bytes;
    if (!reads_only(use)) counts.global_written_bytes += std::uint64_t{number} * access.bytes;
    if (sectors > ideal) note_worst(warp.block->worst_sectors[warp.pc], sectors, ideal);
}

}  // namespace sim::ptx
