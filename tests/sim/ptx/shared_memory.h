// Shared memory of a block, and what is known of every word of it: who wrote and who read it last, and when, so that
// races show.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/ptx/addresses.h"

namespace sim::ptx {

/// When and by whom a word, or a byte of a word that is split, was written and read. See shared_cells.cpp.
struct SharedCell {
    std::uint32_t write_tick = 0, writer = 0, read_tick = 0, reader = 0;
    Lanes reading_warps = 0;
};

class SharedMemory {
public:
    /// Room for a launch; what is in it counts as never written.
    void resize(std::size_t bytes);
    std::size_t size() const { return size_; }
    char* data() { return bytes_; }

    std::vector<std::uint32_t> write_tick, writer, read_tick, reader;  ///< by word
    std::vector<Lanes> reading_warps;
    std::vector<SharedCell> parts;  ///< by byte, of words that are split

private:
    std::size_t size_ = 0;
    std::vector<char> store_;
    char* bytes_ = nullptr;  ///< 128-byte aligned
};

/// Lane number of accesses that belong to several lanes.
constexpr unsigned kSeveralLanes = 32;

/// This warp reads, writes or changes `number` words from `first` on; every `words_per_lane` of them belong to the next
/// lane, from `lane` on (kSeveralLanes: to all).
void touch_shared_words(Warp& warp, std::size_t first, std::size_t number, unsigned lane, std::size_t words_per_lane,
                        Use use);
/// The same of less than a word.
void touch_shared_bytes(Warp& warp, std::size_t first, std::size_t number, unsigned lane, Use use);
/// Words that a cp.async will write: nobody may touch them. And their landing.
void begin_flight(Warp& warp, std::size_t first, std::size_t number, unsigned lane);
void end_flight(Warp& warp, std::size_t first, std::size_t number);

}  // namespace sim::ptx
