// Bank conflicts and sectors, request by request.
#include "sim/ptx/statistics.h"

#include <algorithm>
#include <bit>

namespace sim::ptx {

namespace {

/// Most distinct words in one bank, over `lanes` of one part of a warp.
unsigned conflicts(const std::uint64_t* offsets, Lanes lanes, unsigned words_per_lane) {
    std::uint64_t seen[32][32];
    std::uint8_t in_bank[32] = {};
    unsigned most = 0;
    for (; lanes; lanes &= lanes - 1) {
        const std::uint64_t first = offsets[std::countr_zero(lanes)] / 4;
        for (unsigned k = 0; k < words_per_lane; ++k) {
            const std::uint64_t word = first + k, bank = word % 32;
            if (std::find(seen[bank], seen[bank] + in_bank[bank], word) != seen[bank] + in_bank[bank]) continue;
            seen[bank][in_bank[bank]++] = word;
            most = std::max<unsigned>(most, in_bank[bank]);
        }
    }
    return most;
}

void note_worst(double& worst, std::uint64_t number, std::uint64_t ideal) {
    if (ideal > 0) worst = std::max(worst, static_cast<double>(number) / static_cast<double>(ideal));
}

}  // namespace

namespace {

/// 16 bytes per lane: 8 groups of 4 banks. True: no two lanes of a quarter warp want different rows of one group.
bool no_conflict(const std::uint64_t* offsets, Lanes lanes, unsigned first) {
    unsigned groups = 0, wanted = 0;
    for (unsigned l = first; l < first + 8; ++l) {
        if (!(lanes >> l & 1)) continue;
        groups |= 1u << (offsets[l] / 16 % 8);
        ++wanted;
    }
    return static_cast<unsigned>(std::popcount(groups)) == wanted;
}

}  // namespace

Wavefronts wavefronts_of(const std::uint64_t* offsets, Lanes lanes, unsigned bytes) {
    const unsigned words = std::max(1u, bytes / 4), lanes_at_once = kLanes / words;
    Wavefronts result;
    for (unsigned first = 0; first < kLanes; first += lanes_at_once) {
        const Lanes part = lanes & (lanes_at_once == kLanes ? kAll : ((1u << lanes_at_once) - 1) << first);
        if (!part) continue;
        ++result.ideal;
        result.number += words == 4 && no_conflict(offsets, part, first) ? 1 : conflicts(offsets, part, words);
    }
    return result;
}

void count_shared(Warp& warp, const Access& access) {
    Wavefronts w;
    if (access.contiguous && access.at[0] % 4 == 0)
        w.number = w.ideal = std::max(1u, kLanes * access.bytes / 128);
    else
        w = wavefronts_of(access.at, access.lanes, access.bytes);
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
    if (use != Use::write) counts.global_read_bytes += std::uint64_t{number} * access.bytes;
    if (use != Use::read) counts.global_written_bytes += std::uint64_t{number} * access.bytes;
    if (sectors > ideal) note_worst(warp.block->worst_sectors[warp.pc], sectors, ideal);
}

}  // namespace sim::ptx
