// Finds races in shared memory. A cell holds a tick and a word for the last write and for the reads:
//
//   write   pc << 11 | atomic << 10 | warp << 5 | lane
//   reads   pc << 6 | lane (32: several lanes), and the set of warps that have read since reads were last ordered
//
// An access is ordered before an access of another lane only by a barrier that both passed: of the block, of the warp,
// or of a part of its lanes (Warp::lane_seen). A word whose last write is older than the block was never written.
#include "sim/ptx/shared_memory.h"

#include <algorithm>
#include <bit>

namespace sim::ptx {

namespace {

constexpr std::uint32_t kInFlight = 0xffffffffu, kSplit = 0xfffffffeu, kAtomicBit = 1u << 10;

unsigned warp_of(std::uint32_t writer) { return writer >> 5 & 31; }
unsigned lane_of(std::uint32_t writer) { return writer & 31; }

struct Toucher {
    Warp& warp;
    Block& block;
    SharedMemory& shared;
    Use use;

    Toucher(Warp& w, Use u) : warp(w), block(*w.block), shared(*w.block->shared), use(u) {}

    const char* verb() const {
        return use == Use::read ? "reads " : use == Use::write ? "writes " : "atomically changes ";
    }
    Lanes lanes(unsigned lane) const { return lane == kSeveralLanes ? warp.live : 1u << lane; }
    std::string place(std::size_t byte) const { return "byte " + std::to_string(byte) + " of shared memory"; }

    [[noreturn]] void race_with_writer(std::size_t byte, unsigned lane, std::uint32_t writer) const {
        fault(warp, lanes(lane),
              verb() + place(byte) + ", which " + threads_text(block, warp_of(writer), 1u << lane_of(writer)) +
                  (writer & kAtomicBit ? " atomically changed" : " wrote") + " at " +
                  instruction_text(*block.kernel, writer >> 11) +
                  ", without a barrier between them: race in shared memory");
    }
    [[noreturn]] void race_with_readers(std::size_t byte, unsigned lane, std::uint32_t reader, Lanes warps) const {
        const bool elsewhere = (warps & ~(1u << warp.index)) != 0;
        const unsigned other = static_cast<unsigned>(std::countr_zero(elsewhere ? warps & ~(1u << warp.index) : warps));
        const unsigned other_lane = reader & 63;
        fault(warp, lanes(lane),
              verb() + place(byte) + ", which " +
                  (other_lane == kSeveralLanes || elsewhere ? "warp " + std::to_string(other)
                                                            : threads_text(block, other, 1u << other_lane)) +
                  " reads at " + instruction_text(*block.kernel, reader >> 6) +
                  ", without a barrier between them: race in shared memory");
    }

    /// Whether another lane of the store that runs now wrote this place. That is allowed if both write the same value,
    /// which the store checks afterwards.
    bool is_same_store(std::uint32_t writer, std::size_t byte) const {
        return use == Use::write && warp_of(writer) == warp.index && writer >> 11 == warp.pc && warp.store &&
               warp.store->at[lane_of(writer)] <= byte && byte < warp.store->at[lane_of(writer)] + warp.store->bytes &&
               (warp.store->lanes >> lane_of(writer) & 1);
    }

    /// What lane `other_lane` of warp `other` did before this tick is ordered before what `lane` of this warp does now.
    /// If several lanes have read, the cell does not know which, and one ordered lane is enough.
    std::uint32_t seen(unsigned other, unsigned other_lane, unsigned lane) const {
        if (other != warp.index || warp.lane_seen.empty()) return warp.seen[other];
        if (lane != kSeveralLanes && other_lane != kSeveralLanes) return warp.lane_seen[lane][other_lane];
        std::uint32_t most = 0, least = 0xffffffffu;
        for (unsigned l = 0; l < kLanes && lane != kSeveralLanes; ++l)
            if (l != lane) most = std::max(most, warp.lane_seen[lane][l]);
        if (lane != kSeveralLanes) return most;
        for (Lanes left = warp.live; left; left &= left - 1)
            if (const auto l = static_cast<unsigned>(std::countr_zero(left));
                l != other_lane && other_lane != kSeveralLanes)
                least = std::min(least, warp.lane_seen[l][other_lane]);
        return least;
    }

    void touch(SharedCell& cell, std::size_t byte, unsigned lane) const {
        if (cell.write_tick == kInFlight)
            fault(warp, lanes(lane),
                  verb() + place(byte) + ", which cp.async at " + instruction_text(*block.kernel, cell.writer >> 11) +
                      " has in flight: wait for it first");
        if (use != Use::write && cell.write_tick < block.first_tick)
            fault(warp, lanes(lane), verb() + place(byte) + ", which was never written (uninitialised)");
        if (cell.write_tick >= warp.ordered) {
            const unsigned other = warp_of(cell.writer);
            const bool mine = other == warp.index && lane_of(cell.writer) == lane,
                       atomics = use == Use::atomic && (cell.writer & kAtomicBit);
            if (!mine && !atomics && cell.write_tick >= seen(other, lane_of(cell.writer), lane) &&
                !is_same_store(cell.writer, byte))
                race_with_writer(byte, lane, cell.writer);
        }
        use == Use::read ? record_read(cell, lane) : record_write(cell, byte, lane);
    }

    void record_read(SharedCell& cell, unsigned lane) const {
        const Lanes me = 1u << warp.index;
        const bool again = cell.read_tick >= warp.ordered;  // otherwise all earlier reads are ordered
        const Lanes before = again ? cell.reading_warps : 0;
        const bool same_lane =
            !(before & me) || (cell.reader & 63) == lane || cell.read_tick < seen(warp.index, cell.reader & 63, lane);
        cell.reading_warps = before | me;
        cell.reader = warp.pc << 6 | (same_lane ? lane : kSeveralLanes);
        cell.read_tick = *block.tick;
    }

    void record_write(SharedCell& cell, std::size_t byte, unsigned lane) const {
        if (cell.read_tick >= warp.ordered)
            for (Lanes left = cell.reading_warps; left; left &= left - 1) {
                const unsigned other = static_cast<unsigned>(std::countr_zero(left));
                const bool mine = other == warp.index && (cell.reader & 63) == lane;
                if (!mine && cell.read_tick >= seen(other, cell.reader & 63, lane))
                    race_with_readers(byte, lane, cell.reader, cell.reading_warps);
            }
        cell.write_tick = *block.tick;
        cell.writer = warp.pc << 11 | (use == Use::atomic ? kAtomicBit : 0) | warp.index << 5 |
                      (lane == kSeveralLanes ? 0 : lane);
    }

    SharedCell get(std::size_t word) const {
        return {shared.write_tick[word], shared.writer[word], shared.read_tick[word], shared.reader[word],
                shared.reading_warps[word]};
    }
    void put(std::size_t word, const SharedCell& cell) const {
        shared.write_tick[word] = cell.write_tick, shared.writer[word] = cell.writer,
        shared.read_tick[word] = cell.read_tick, shared.reader[word] = cell.reader;
        shared.reading_warps[word] = cell.reading_warps;
    }

    /// Makes the four cells of a split word one cell again when all their accesses are ordered before every warp.
    void join(std::size_t word) const {
        SharedCell last;
        for (unsigned b = 0; b < 4; ++b) {
            const SharedCell& part = shared.parts[4 * word + b];
            if (part.write_tick < block.first_tick || part.write_tick >= block.settled ||
                part.read_tick >= block.settled)
                return;
            if (part.write_tick > last.write_tick) last = part;
        }
        last.read_tick = 0, last.reading_warps = 0;
        put(word, last);
    }

    void word(std::size_t at, unsigned lane) const {
        if (shared.write_tick[at] == kSplit) join(at);
        if (shared.write_tick[at] == kSplit) {
            for (unsigned b = 0; b < 4; ++b) touch(shared.parts[4 * at + b], 4 * at + b, lane);
            if (use == Use::write) put(at, shared.parts[4 * at]);
            return;
        }
        SharedCell cell = get(at);
        touch(cell, 4 * at, lane);
        put(at, cell);
    }

    void bytes(std::size_t first, std::size_t number, unsigned lane) const {
        const std::size_t at = first / 4;
        if (shared.write_tick[at] != kSplit) {
            if (shared.write_tick[at] == kInFlight)
                fault(warp, lanes(lane),
                      verb() + place(first) + ", which cp.async at " +
                          instruction_text(*block.kernel, shared.writer[at] >> 11) +
                          " has in flight: wait for it first");
            std::fill_n(shared.parts.begin() + static_cast<std::ptrdiff_t>(4 * at), 4, get(at));
            shared.write_tick[at] = kSplit;
        }
        for (std::size_t b = first; b < first + number; ++b) touch(shared.parts[b], b, lane);
    }
};

}  // namespace

void SharedMemory::resize(std::size_t bytes) {
    size_ = bytes;
    if (bytes + 256 <= store_.size()) return;
    store_.assign(bytes + 256, static_cast<char>(0xff));
    bytes_ = store_.data() + (128 - reinterpret_cast<std::uintptr_t>(store_.data()) % 128);
    const std::size_t words = bytes / 4 + 40;
    for (auto* ticks : {&write_tick, &writer, &read_tick, &reader, &reading_warps}) ticks->assign(words, 0);
    parts.assign(4 * words, {});
}

namespace {

/// The fast path, as Toucher::touch but without branches: all earlier accesses are ordered before this one (a read
/// needs that of the writes only), and words that are read were written. If single words need a closer look, it returns
/// false and records nothing. `lanes`: the lane of each word.
template <Use use>
bool touch_quickly(const Warp& warp, SharedMemory& shared, std::size_t first, std::size_t count,
                   const std::uint32_t* __restrict lanes) {
    const std::uint32_t oldest = warp.block->first_tick, ordered = warp.ordered, now = *warp.block->tick;
    std::uint32_t* __restrict const write_tick = &shared.write_tick[first], * __restrict const read_tick =
                                                                                &shared.read_tick[first];
    std::uint32_t slow = 0;
    if constexpr (use == Use::read) {
#pragma omp simd reduction(| : slow)
        for (std::size_t k = 0; k < count; ++k) slow |= (write_tick[k] < oldest) | (write_tick[k] >= ordered);
    } else {
#pragma omp simd reduction(| : slow)
        for (std::size_t k = 0; k < count; ++k) slow |= (write_tick[k] >= ordered) | (read_tick[k] >= ordered);
    }
    if (slow) return false;
    if constexpr (use == Use::write) {
        std::uint32_t* __restrict const writer = &shared.writer[first];
        const std::uint32_t who = warp.pc << 11 | warp.index << 5;
#pragma omp simd
        for (std::size_t k = 0; k < count; ++k) write_tick[k] = now, writer[k] = who | lanes[k];
        return true;
    }
    std::uint32_t* __restrict const reader = &shared.reader[first];
    Lanes* __restrict const warps = &shared.reading_warps[first];
    const Lanes me = 1u << warp.index;
    const std::uint32_t pc = warp.pc << 6, own = warp.seen[warp.index];
#pragma omp simd
    for (std::size_t k = 0; k < count; ++k) {
        const Lanes before = read_tick[k] >= ordered ? warps[k] : 0;
        const std::uint32_t other_lane = ((before & me) != 0) & (read_tick[k] >= own) & ((reader[k] & 63) != lanes[k]);
        warps[k] = before | me;
        reader[k] = pc | (other_lane ? kSeveralLanes : lanes[k]);
        read_tick[k] = now;
    }
    return true;
}

}  // namespace

void touch_shared_words(Warp& warp, std::size_t first, std::size_t number, unsigned lane, std::size_t words_per_lane,
                        Use use) {
    SharedMemory& shared = *warp.block->shared;
    alignas(32) std::uint32_t lanes[4 * kLanes];
    const bool one_owner = number == words_per_lane;
    if (one_owner)
        for (std::size_t k = 0; k < 4; ++k) lanes[k] = lane;
    else
        for (std::size_t k = 0; k < number; ++k) lanes[k] = lane + static_cast<unsigned>(k / words_per_lane);
    const auto quickly = [&](std::size_t count) {
        if (!warp.lane_seen.empty()) return false;
        if (use == Use::read) return touch_quickly<Use::read>(warp, shared, first, count, lanes);
        return use == Use::write && touch_quickly<Use::write>(warp, shared, first, count, lanes);
    };
    const auto by_number = [&] {  // constants give faster code
        switch (number) {
            case 1:
                return quickly(1);
            case 2:
                return quickly(2);
            case 4:
                return quickly(4);
            case 16:
                return quickly(16);
            case 32:
                return quickly(32);
            case 64:
                return quickly(64);
            case 128:
                return quickly(128);
            default:
                return quickly(number);
        }
    };
    if (by_number()) return;
    const Toucher toucher(warp, use);
    for (std::size_t k = 0; k < number; ++k) toucher.word(first + k, lanes[k]);
}

void touch_shared_bytes(Warp& warp, std::size_t first, std::size_t number, unsigned lane, Use use) {
    Toucher(warp, use).bytes(first, number, lane);
}

void begin_flight(Warp& warp, std::size_t first, std::size_t number, unsigned lane) {
    touch_shared_words(warp, first, number, lane, number, Use::write);
    for (std::size_t k = first; k < first + number; ++k) warp.block->shared->write_tick[k] = kInFlight;
}

void end_flight(Warp& warp, std::size_t first, std::size_t number) {
    SharedMemory& shared = *warp.block->shared;
    for (std::size_t k = first; k < first + number; ++k) shared.write_tick[k] = *warp.block->tick;
}

}  // namespace sim::ptx
