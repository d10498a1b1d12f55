// Finds races in global memory. A cell holds, for the last write and for the reads, a tick and a word "who":
// pc << 11 | bytes << 7 | kind << 5 | warp.
//
//   bytes               which of the word's four bytes were touched
//   kind of a write     1: an atomic or a strong store
//   kind of the reads   1: several warps of one block, 2: several blocks, 3: all of them were strong
//
// Once two accesses of a launch touch different bytes of a word, Shadow::split keeps a cell for each byte. If all reads
// were strong, the cell keeps one that was not ordered before the others.
#include "sim/ptx/global_cells.h"

namespace sim::ptx {

namespace {

constexpr std::uint32_t kSplit = 0xffffffffu, kWholeWord = 15u << 7;
enum Kind : std::uint32_t { kOne = 0, kSeveralWarps = 1, kSeveralBlocks = 2, kStrongReads = 3, kAtomic = 1 };

std::uint32_t kind_of(std::uint32_t who) { return who >> 5 & 3; }
unsigned warp_of(std::uint32_t who) { return who & 31; }

[[noreturn]] void race(Warp& warp, const GlobalRange& range, std::uintptr_t address, Use use, std::uint32_t tick,
                       std::uint32_t who, bool other_writes) {
    const Block& block = *warp.block;
    const bool same_block = tick >= block.first_tick && (other_writes || kind_of(who) != kSeveralBlocks);
    std::string what = reads_only(use) ? "reads" : writes_only(use) ? "writes" : "atomically changes";
    what += " byte " + std::to_string(address - range.begin) + " of an allocation of " +
            std::to_string(range.end - range.begin) + " bytes, which ";
    what += same_block ? (!other_writes && kind_of(who) == kSeveralWarps
                              ? "several warps"
                              : "warp " + std::to_string(warp_of(who)) + " of the same block")
                       : std::string("another block of this launch");
    what += other_writes ? (kind_of(who) == kAtomic ? " changed by an atomic or strong store" : " wrote") : " read";
    what += " at " + instruction_text(*block.kernel, who >> 11);
    fault(warp, 0,
          what + (same_block ? " without a barrier between them: race in global memory"
                             : ": race in global memory between blocks"));
}

/// Whether what warp `other` did at `tick` is ordered before what `warp` does now.
bool is_ordered(const Warp& warp, std::uint32_t tick, unsigned other) {
    if (tick < warp.block->launch_tick) return true;
    if (tick < warp.block->first_tick) return false;
    return other == warp.index || tick < warp.seen[other];
}

/// Checks one cell and records the access in it.
void touch(Warp& warp, const GlobalRange& range, std::uintptr_t address, GlobalCell& cell, std::uint32_t bytes,
           Use use) {
    const Block& block = *warp.block;
    const bool strong = is_strong(use);
    if (!is_ordered(warp, cell.write_tick, warp_of(cell.writer)) && !(strong && kind_of(cell.writer) == kAtomic))
        race(warp, range, address, use, cell.write_tick, cell.writer, true);
    const std::uint32_t who = warp.pc << 11 | bytes << 7 | warp.index;
    if (use == Use::read_only && cell.write_tick >= block.launch_tick)
        fault(warp, 0,
              "reads byte " + std::to_string(address - range.begin) +
                  " by ld.global.nc, for data that is constant during the launch, but it was written at " +
                  instruction_text(*block.kernel, cell.writer >> 11));
    if (reads_only(use)) {
        const bool fresh = cell.read_tick < block.launch_tick,
                   other_block = !fresh && cell.read_tick < block.first_tick;
        if (strong && !fresh &&
            (kind_of(cell.reader) != kStrongReads || !is_ordered(warp, cell.read_tick, warp_of(cell.reader))))
            return;
        std::uint32_t kind = kOne;
        if (strong) kind = kStrongReads;
        else if (!fresh && (other_block || kind_of(cell.reader) == kSeveralBlocks)) kind = kSeveralBlocks;
        else if (!fresh && cell.read_tick >= warp.ordered &&
                 (kind_of(cell.reader) == kSeveralWarps || warp_of(cell.reader) != warp.index))
            kind = kSeveralWarps;
        cell.read_tick = *block.tick;
        cell.reader = who | kind << 5;
        return;
    }
    if (cell.read_tick >= block.launch_tick) {
        const std::uint32_t kind = kind_of(cell.reader);
        const bool fine = kind == kSeveralBlocks           ? false
                          : kind == kStrongReads && strong ? true
                          : kind == kSeveralWarps ? cell.read_tick >= block.first_tick && cell.read_tick < warp.ordered
                                                  : is_ordered(warp, cell.read_tick, warp_of(cell.reader));
        if (!fine) race(warp, range, address, use, cell.read_tick, cell.reader, false);
    }
    cell.write_tick = *block.tick;
    cell.writer = who | (strong ? kAtomic << 5 : 0);
}

struct Cells {
    std::uint32_t *write_tick, *writer, *read_tick, *reader;
    explicit Cells(const GlobalRange& range)
        : write_tick(range.write_tick),
          writer(range.writer),
          read_tick(range.read_tick),
          reader(range.reader) {}
    GlobalCell get(std::size_t word) const { return {write_tick[word], writer[word], read_tick[word], reader[word]}; }
    void put(std::size_t word, const GlobalCell& cell) const {
        write_tick[word] = cell.write_tick, writer[word] = cell.writer, read_tick[word] = cell.read_tick,
        reader[word] = cell.reader;
    }
};

/// Replaces the cell of a word by one cell for each of its bytes. A byte that an access did not touch does not remember
/// that access.
SplitWord& split(Warp& warp, const GlobalRange& range, std::size_t word) {
    const Cells cells(range);
    auto& words = warp.block->global->split;
    const auto [entry, is_new] = words.try_emplace(range.base + 4 * word);
    if (!is_new && cells.write_tick[word] == kSplit) return entry->second;
    entry->second = {};
    if (cells.write_tick[word] != kSplit)
        for (unsigned b = 0; b < 4; ++b) {
            GlobalCell& cell = entry->second.bytes[b];
            cell = cells.get(word);
            if (!(cell.writer >> 7 >> b & 1)) cell.write_tick = 0;
            if (!(cell.reader >> 7 >> b & 1)) cell.read_tick = 0;
        }
    cells.write_tick[word] = kSplit;
    return entry->second;
}

/// Records an access to one word; `bytes` is a mask of the bytes that are touched.
void touch_word(Warp& warp, const GlobalRange& range, std::size_t word, std::uint32_t bytes, Use use) {
    const Cells cells(range);
    const std::uint32_t launch = warp.block->launch_tick;
    GlobalCell cell = cells.get(word);
    const auto& split_words = warp.block->global->split;
    if (cell.write_tick == kSplit && !split_words.contains(range.base + 4 * word))
        cell.write_tick = 0;  // it was split in an earlier launch
    const auto is_part = [&](std::uint32_t tick, std::uint32_t who) {
        return tick >= launch && (who >> 7 & 15) != bytes;
    };
    if (cell.write_tick == kSplit || is_part(cell.write_tick, cell.writer) || is_part(cell.read_tick, cell.reader)) {
        SplitWord& parts = split(warp, range, word);
        for (unsigned b = 0; b < 4; ++b)
            if (bytes >> b & 1) touch(warp, range, range.base + 4 * word + b, parts.bytes[b], 1u << b, use);
        return;
    }
    touch(warp, range, range.base + 4 * word, cell, bytes, use);
    cells.put(word, cell);
}

}  // namespace

namespace {

/// The fast path, as `touch` but without branches, for `count` whole words (best a compile-time constant): in this
/// launch only this warp has touched them, or other warps have before a barrier. If single words need a closer look, it
/// returns false and records nothing.
template <Use use>
bool touch_quickly(const Warp& warp, std::uint32_t* __restrict write_tick, std::uint32_t* __restrict writer,
                   std::uint32_t* __restrict read_tick, std::uint32_t* __restrict reader, std::size_t count) {
    const Block& block = *warp.block;
    const std::uint32_t launch = block.launch_tick, first = block.first_tick, ordered = warp.ordered, me = warp.index,
                        now = *block.tick, who = warp.pc << 11 | kWholeWord | me;
    std::uint32_t was_written = 0, was_read = 0, bad = 0;  // in this launch; most words were not
#pragma omp simd reduction(| : was_written, was_read)
    for (std::size_t k = 0; k < count; ++k) was_written |= write_tick[k] >= launch, was_read |= read_tick[k] >= launch;
    if (was_written) {
        if (use == Use::read_only) return false;
#pragma omp simd reduction(| : bad)
        for (std::size_t k = 0; k < count; ++k) {
            const std::uint32_t tick = write_tick[k], by = writer[k], mine = ((by & 31) == me) | (tick < ordered),
                                whole = (by & kWholeWord) == kWholeWord;
            const std::uint32_t fine = (tick >= first) & (tick != kSplit) & mine & whole;
            bad |= (tick >= launch) & ~fine;
        }
    }
    if (was_read) {
        std::uint32_t for_ever = 1;  // several blocks have read all of them: one more read changes nothing
#pragma omp simd reduction(| : bad) reduction(& : for_ever)
        for (std::size_t k = 0; k < count; ++k) {
            const std::uint32_t tick = read_tick[k], by = reader[k], kind = by >> 5 & 3,
                                whole = (by & kWholeWord) == kWholeWord;
            const std::uint32_t alone = (kind == kOne) & ((by & 31) == me),
                                before = (kind <= kSeveralWarps) & (tick < ordered);
            const std::uint32_t fine = reads_only(use) ? whole : (tick >= first) & (alone | before) & whole;
            bad |= (tick >= launch) & ~fine;
            for_ever &= (tick >= launch) & (kind == kSeveralBlocks);
        }
        if (reads_only(use) && for_ever && !(bad & 1)) return true;
    }
    if (bad & 1) return false;
    if constexpr (use == Use::write) {
#pragma omp simd
        for (std::size_t k = 0; k < count; ++k) write_tick[k] = now, writer[k] = who;
        return true;
    }
    if (!was_read) {
#pragma omp simd
        for (std::size_t k = 0; k < count; ++k) read_tick[k] = now, reader[k] = who;
        return true;
    }
#pragma omp simd
    for (std::size_t k = 0; k < count; ++k) {
        const std::uint32_t tick = read_tick[k], old = reader[k], kind = old >> 5 & 3;
        const std::uint32_t several = (tick >= ordered) & ((kind == kSeveralWarps) | ((old & 31) != me));
        const std::uint32_t blocks = (tick < first) | (kind == kSeveralBlocks);
        const std::uint32_t next = tick < launch ? 0u : blocks ? 2u : several ? 1u : 0u;
        read_tick[k] = now;
        reader[k] = who | next << 5;
    }
    return true;
}

}  // namespace

void touch_words(Warp& warp, const GlobalRange& range, std::size_t first, std::size_t number, Use use) {
    const Cells cells(range);
    std::uint32_t *const write_tick = cells.write_tick + first, *const writer = cells.writer + first,
                         *const read_tick = cells.read_tick + first, *const reader = cells.reader + first;
    const auto quickly = [&](std::size_t count) {
        if (use == Use::read_only)
            return touch_quickly<Use::read_only>(warp, write_tick, writer, read_tick, reader, count);
        if (use == Use::read) return touch_quickly<Use::read>(warp, write_tick, writer, read_tick, reader, count);
        return use == Use::write && touch_quickly<Use::write>(warp, write_tick, writer, read_tick, reader, count);
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
    for (std::size_t k = 0; k < number; ++k) touch_word(warp, range, first + k, 15, use);
}

void touch_partial(Warp& warp, const GlobalRange& range, std::uintptr_t begin, std::size_t bytes, Use use) {
    const std::uintptr_t end = begin + bytes;
    while (begin < end) {
        const unsigned at = static_cast<unsigned>((begin - range.base) % 4);
        const std::size_t here = std::min<std::size_t>(4 - at, end - begin);
        if (here == 4) {
            const std::size_t words = (end - begin) / 4;
            touch_words(warp, range, range.word(begin), words, use);
            begin += 4 * words;
            continue;
        }
        touch_word(warp, range, range.word(begin), ((1u << here) - 1) << at, use);
        begin += here;
    }
}

}  // namespace sim::ptx
