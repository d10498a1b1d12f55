// Shared memory of a block, and a record for every word of the threads that wrote and read it last, and when, so that
// races are found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/ptx/addresses.h"

namespace sim::ptx {

/// The tick and the thread of the last write and read of a word, or of a byte of a split word. See shared_cells.cpp.
struct SharedCell {
    std::uint32_t write_tick = 0, writer = 0, read_tick = 0, reader = 0;
    Lanes reading_warps = 0;
};

class SharedMemory {
public:
    /// Makes room for a launch; all bytes count as never written.
    void resize(std::size_t bytes);
    std::size_t size() const { return size_; }
    char* data() { return bytes_; }

    std::vector<std::uint32_t> write_tick, writer, read_tick, reader;  ///< by word
    std::vector<Lanes> reading_warps;
    std::vector<SharedCell> parts;  ///< by byte, for split words

private:
    std::size_t size_ = 0;
    std::vector<char> store_;
    char* bytes_ = nullptr;  ///< 128-byte aligned
};

/// The lane number of accesses by several lanes.
constexpr unsigned kSeveralLanes = 32;

/// Records that this warp reads, writes or changes `number` words from `first` on. Every `words_per_lane` of them
/// belong to the next lane, starting with `lane` (kSeveralLanes: to several lanes).
void touch_shared_words(Warp& warp, std::size_t first, std::size_t number, unsigned lane, std::size_t words_per_lane,
                        Use use);
/// The same for less than a word.
void touch_shared_bytes(Warp& warp, std::size_t first, std::size_t number, unsigned lane, Use use);
/// begin_flight: a cp.async will write these words, and nothing may touch them. end_flight: the copy lands.
void begin_flight(Warp& warp, std::size_t first, std::size_t number, unsigned lane);
void end_flight(Warp& warp, std::size_t first, std::size_t number);

}  // namespace sim::ptx
