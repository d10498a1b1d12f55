// The shadow of global memory: which addresses may be touched, one bit per byte that was ever written, and for each
// word which warps wrote and read it in this launch. It is mapped lazily: only memory that kernels touch costs memory.
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
    /// Makes everything zero again.
    void clear();
    template <class T> T* as() const { return static_cast<T*>(data_); }

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

/// The tick and the warp of the last write and read of a word, or of a byte of a split word. See global_cells.cpp.
struct GlobalCell {
    std::uint32_t write_tick = 0, writer = 0, read_tick = 0, reader = 0;
};
struct SplitWord {
    GlobalCell bytes[4];
};

/// A range that an access must not leave: an allocation, or a region of a heap. Words are counted from `base`, which is
/// `begin` rounded down to 4 bytes.
struct GlobalRange {
    std::uintptr_t begin = 0, end = 0, base = 0;
    std::shared_ptr<std::uint8_t> written;  ///< a bit per byte from base on
    /// Cells of the first word.
    std::uint32_t *write_tick = nullptr, *writer = nullptr, *read_tick = nullptr, *reader = nullptr;
    std::size_t word(std::uintptr_t address) const { return (address - base) / 4; }
};

/// An allocation that GlobalMemory::add registered. Regions share its cells, but none of their bytes count as written
/// at first.
struct Allocation {
    LazyMemory written, write_tick, writer, read_tick, reader;
    GlobalRange whole;
    bool is_heap = false, ended = false;  ///< ended: no part of it may be touched until it is removed
    std::map<std::uintptr_t, GlobalRange> regions;

    Allocation(std::uintptr_t begin, std::size_t bytes);
    GlobalRange region(std::uintptr_t begin, std::size_t bytes) const;
    /// Forgets the accesses of all launches; written bytes stay written.
    void forget();
};

/// The ranges that may be touched, by address.
struct GlobalMemory::View {
    std::vector<GlobalRange> ranges;
};

/// all_set: whether bits [first, first + number) of a bitmap are all set; set_bits sets them.
bool all_set(const std::uint8_t* bits, std::size_t first, std::size_t number);
void set_bits(std::uint8_t* bits, std::size_t first, std::size_t number);

class SharedMemory;

struct GlobalMemory::Shadow {
    std::map<std::uintptr_t, Allocation> allocations;     ///< by address
    std::shared_ptr<const View> latest;                   ///< nullptr: it must be made again
    std::shared_ptr<const View> view;                     ///< of the work that runs; nullptr: the latest
    const GlobalRange* recent = nullptr;                  ///< the range of the view that was found last
    std::unordered_map<std::uintptr_t, SplitWord> split;  ///< by address of the word, for one launch
    std::uint32_t tick = 0;                               ///< the time, for all launches on this memory
    /// Of the block that runs. Kept between launches, because its ticks come from `tick`.
    std::unique_ptr<SharedMemory> shared;

    Shadow();
    ~Shadow();
    /// Forgets the split words of the last launch. Begins again with tick 0 if the ticks come near their end.
    void begin_launch();

    /// The allocation that holds all the bytes, or nullptr.
    Allocation* allocation_of(std::uintptr_t begin, std::size_t bytes);
    /// The range of the view that holds all the bytes, or nullptr.
    const GlobalRange* find(std::uintptr_t begin, std::size_t bytes);
    /// The view in use, or else the latest one.
    const View& what_may_be_touched();
    const std::shared_ptr<const View>& newest();
    /// Called when allocations or regions have changed: `latest` must be made again.
    void changed();
};

/// Says where an address is: " (byte 16 of an allocation of 16 bytes) (240 bytes before an allocation)". Allocations
/// and regions are both called allocations.
std::string place_text(GlobalMemory::Shadow& shadow, std::uintptr_t at);

}  // namespace sim::ptx
