// What is known of global memory: which of it belongs to somebody, a bit per byte that was ever written, and per word
// who wrote and who read it in this launch. Mapped lazily: only what kernels touch takes memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
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

/// Memory that an access may lie in: an allocation, or a region of a heap. Words are counted from `begin` rounded down
/// to 4 bytes.
struct GlobalRange {
    std::uintptr_t begin = 0, end = 0, base = 0;
    std::shared_ptr<std::uint8_t> written;  ///< a bit per byte from base on
    std::uint32_t *write_tick = nullptr, *writer = nullptr, *read_tick = nullptr,
                  *reader = nullptr;  ///< of the first word
    std::size_t word(std::uintptr_t address) const { return (address - base) / 4; }
};

/// What GlobalMemory::add made known. Regions share its cells, but begin with nothing written.
struct Allocation {
    LazyMemory written, write_tick, writer, read_tick, reader;
    GlobalRange whole;
    bool is_heap = false, ended = false;  ///< ended: nothing of it may be touched until it is removed
    std::map<std::uintptr_t, GlobalRange> regions;

    Allocation(std::uintptr_t begin, std::size_t bytes);
    GlobalRange region(std::uintptr_t begin, std::size_t bytes) const;
    /// All launches; what was written stays known.
    void forget();
};

/// What may be touched, by address.
struct GlobalMemory::View {
    std::vector<GlobalRange> ranges;
};

/// Bits [first, first + number) of a bitmap.
bool all_set(const std::uint8_t* bits, std::size_t first, std::size_t number);
void set_bits(std::uint8_t* bits, std::size_t first, std::size_t number);

class SharedMemory;

struct GlobalMemory::Shadow {
    std::map<std::uintptr_t, Allocation> allocations;     ///< by address
    std::shared_ptr<const View> latest;                   ///< nullptr: has to be made again
    std::shared_ptr<const View> view;                     ///< of the work that runs
    const GlobalRange* recent = nullptr;                  ///< of the view, found last
    std::unordered_map<std::uintptr_t, SplitWord> split;  ///< by address of the word; of one launch
    std::uint32_t tick = 0;                               ///< the time of all launches on this memory
    std::unique_ptr<SharedMemory> shared;  ///< of the block that runs, kept since its ticks are of the same time

    Shadow();
    ~Shadow();
    /// Forgets the last launch.
    void begin_launch();

    /// The allocation that holds all of it, or nullptr.
    Allocation* allocation_of(std::uintptr_t begin, std::size_t bytes);
    /// The range of the view that holds all of it, or nullptr.
    const GlobalRange* find(std::uintptr_t begin, std::size_t bytes);
    /// The view in use, else the latest.
    const View& what_may_be_touched();
    const std::shared_ptr<const View>& newest();
    /// What is in `latest` and `view` is no longer so.
    void changed();
};

/// Where an address is, as " (byte 16 of an allocation of 16 bytes) (240 bytes before an allocation)"; allocations and
/// regions are called alike.
std::string place_text(GlobalMemory::Shadow& shadow, std::uintptr_t at);

}  // namespace sim::ptx
