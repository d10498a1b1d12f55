// What is known of global memory: a bit per byte that was ever written, and per word who wrote and who read it in this launch. Mapped lazily: only what kernels touch
// takes memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "sim/ptx/launch.h"

namespace sim::ptx {

/// Zeros that take no memory until they are written.
class LazyMemory {
public:
    explicit LazyMemory(std::size_t bytes);
    ~LazyMemory();
    LazyMemory(LazyMemory&& other) noexcept : data_(other.data_), bytes_(other.bytes_) { other.data_ = nullptr; }
    LazyMemory& operator=(LazyMemory&&) = delete;
    /// Zeros again.
    void clear();
    template <class T> T* as() const { return static_cast<T*>(data_); }

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

/// When (tick) and by whom a word, or a byte of a word that is split, was written and read.
struct GlobalCell {
    std::uint32_t write_tick = 0, writer = 0, read_tick = 0, reader = 0;
};
struct SplitWord {
    GlobalCell bytes[4];
};

/// One allocation. Words are counted from `begin` rounded down to 4 bytes.
struct GlobalRange {
    std::uintptr_t begin = 0, end = 0, base = 0;
    LazyMemory written, write_tick, writer, read_tick, reader;

    GlobalRange(std::uintptr_t from, std::size_t bytes);
    /// All launches; what was written stays known.
    void forget();
    std::size_t word(std::uintptr_t address) const { return (address - base) / 4; }
};

/// Bits [first, first + number) of a bitmap.
bool all_set(const std::uint8_t* bits, std::size_t first, std::size_t number);
void set_bits(std::uint8_t* bits, std::size_t first, std::size_t number);

class SharedMemory;

struct GlobalMemory::Shadow {
    std::vector<GlobalRange> ranges;                      ///< by address
    std::size_t recent = 0;                               ///< the range found last
    std::unordered_map<std::uintptr_t, SplitWord> split;  ///< by address of the word; of one launch
    std::uint32_t tick = 0;                               ///< the time of all launches on this memory
    std::unique_ptr<SharedMemory> shared;                 ///< of the block that runs, kept since its ticks are of the same time

    Shadow();
    ~Shadow();
    /// Forgets the last launch.
    void begin_launch();

    /// The range that holds all of it, or nullptr.
    GlobalRange* find(std::uintptr_t begin, std::size_t bytes);
};

}  // namespace sim::ptx
