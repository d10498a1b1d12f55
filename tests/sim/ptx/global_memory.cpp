// GlobalMemory: registered device memory, heaps and their regions, and bitmaps of written bytes. Races are found in
// global_cells.cpp.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "sim/ptx/global_shadow.h"
#include "sim/ptx/shared_memory.h"

namespace sim::ptx {

LazyMemory::LazyMemory(std::size_t bytes) : bytes_(std::max<std::size_t>(bytes, 4096)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ == MAP_FAILED) throw std::bad_alloc();
}

LazyMemory::~LazyMemory() {
    if (data_) munmap(data_, bytes_);
}

Allocation::Allocation(std::uintptr_t begin, std::size_t bytes)
    : written((bytes + 4) / 8 + 64),
      write_tick(bytes + 256),
      writer(bytes + 256),
      read_tick(bytes + 256),
      reader(bytes + 256) {
    whole = {begin,
             begin + bytes,
             begin & ~std::uintptr_t{3},
             {std::shared_ptr<void>{}, written.as<std::uint8_t>()},
             write_tick.as<std::uint32_t>(),
             writer.as<std::uint32_t>(),
             read_tick.as<std::uint32_t>(),
             reader.as<std::uint32_t>()};
}

GlobalRange Allocation::region(std::uintptr_t begin, std::size_t bytes) const {
    const std::uintptr_t base = begin & ~std::uintptr_t{3};
    const std::size_t word = whole.word(base);
    std::shared_ptr<std::uint8_t> bits(static_cast<std::uint8_t*>(std::calloc((bytes + 4) / 8 + 64, 1)), std::free);
    if (!bits) throw std::bad_alloc();
    return {begin,
            begin + bytes,
            base,
            std::move(bits),
            whole.write_tick + word,
            whole.writer + word,
            whole.read_tick + word,
            whole.reader + word};
}

void LazyMemory::clear() { madvise(data_, bytes_, MADV_DONTNEED); }

void Allocation::forget() {
    for (LazyMemory* memory : {&write_tick, &writer, &read_tick, &reader}) memory->clear();
}

bool all_set(const std::uint8_t* bits, std::size_t first, std::size_t number) {
    const std::size_t last = first + number;
    for (; first < last && first % 8 != 0; ++first)
        if (!(bits[first / 8] >> first % 8 & 1)) return false;
    std::size_t byte = first / 8;
    for (; byte + 8 <= last / 8; byte += 8) {
        std::uint64_t eight = 0;
        std::memcpy(&eight, bits + byte, sizeof eight);
        if (eight != ~std::uint64_t{0}) return false;
    }
    for (; byte < last / 8; ++byte)
        if (bits[byte] != 0xff) return false;
    for (first = std::max(first, last & ~std::size_t{7}); first < last; ++first)
        if (!(bits[first / 8] >> first % 8 & 1)) return false;
    return true;
}

void set_bits(std::uint8_t* bits, std::size_t first, std::size_t number) {
    const std::size_t last = first + number;
    const auto set = [&](std::size_t bit) { bits[bit / 8] = static_cast<std::uint8_t>(bits[bit / 8] | 1u << bit % 8); };
    for (; first < last && first % 8 != 0; ++first) set(first);
    if (const std::size_t whole = last / 8; whole > first / 8) {
        std::memset(bits + first / 8, 0xff, whole - first / 8);
        first = whole * 8;
    }
    for (; first < last; ++first) set(first);
}

Allocation* GlobalMemory::Shadow::allocation_of(std::uintptr_t begin, std::size_t bytes) {
    const auto after = allocations.upper_bound(begin);
    if (after == allocations.begin()) return nullptr;
    Allocation& found = std::prev(after)->second;
    return begin + bytes <= found.whole.end && begin + bytes >= begin ? &found : nullptr;
}

const GlobalRange* GlobalMemory::Shadow::find(std::uintptr_t begin, std::size_t bytes) {
    if (recent && begin >= recent->begin && begin <= recent->end && bytes <= recent->end - begin) return recent;
    const auto& ranges = what_may_be_touched().ranges;
    const auto after = std::upper_bound(ranges.begin(), ranges.end(), begin,
                                        [](std::uintptr_t at, const GlobalRange& range) { return at < range.begin; });
    if (after == ranges.begin()) return nullptr;
    const GlobalRange& range = *std::prev(after);
    if (begin + bytes > range.end || begin + bytes < begin) return nullptr;
    return recent = &range;
}

const std::shared_ptr<const GlobalMemory::View>& GlobalMemory::Shadow::newest() {
    if (latest) return latest;
    auto next = std::make_shared<View>();
    for (const auto& [begin, allocation] : allocations)
        if (!allocation.is_heap) next->ranges.push_back(allocation.whole);
        else
            for (const auto& [from, region] : allocation.regions) next->ranges.push_back(region);
    return latest = std::move(next);
}

const GlobalMemory::View& GlobalMemory::Shadow::what_may_be_touched() { return view ? *view : *newest(); }

void GlobalMemory::Shadow::changed() {
    if (!view) recent = nullptr;
    latest = nullptr;
}

GlobalMemory::Shadow::Shadow() : shared(std::make_unique<SharedMemory>()) {}
GlobalMemory::Shadow::~Shadow() = default;

void GlobalMemory::Shadow::begin_launch() {
    constexpr std::uint32_t kLate = 0xf0000000u;  // far enough below kSplit for any launch
    if (!split.empty()) split.clear();
    if (tick < kLate) return;
    tick = 0;
    shared = std::make_unique<SharedMemory>();
    for (auto& [begin, allocation] : allocations) allocation.forget();
}

GlobalMemory::GlobalMemory() : shadow_(std::make_unique<Shadow>()) {}
GlobalMemory::~GlobalMemory() = default;

namespace {

std::uintptr_t number(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

/// Whether [begin, begin + bytes) shares a byte with an entry of the map. range_of: the GlobalRange of an entry.
template <class Map, class RangeOf>
bool meets_any(const Map& map, std::uintptr_t begin, std::size_t bytes, RangeOf&& range_of) {
    const auto after = map.upper_bound(begin);
    return (after != map.end() && begin + bytes > after->first) ||
           (after != map.begin() && range_of(std::prev(after)->second).end > begin);
}

Allocation& heap_at(GlobalMemory::Shadow& shadow, const void* begin) {
    const auto found = shadow.allocations.find(number(begin));
    if (found == shadow.allocations.end() || !found->second.is_heap || found->second.ended)
        throw Fault("the address is not the beginning of a heap");
    return found->second;
}

Allocation& heap_around(GlobalMemory::Shadow& shadow, const void* begin, std::size_t bytes) {
    Allocation* const found = shadow.allocation_of(number(begin), bytes);
    if (!found || !found->is_heap || found->ended)
        throw Fault("a region of " + std::to_string(bytes) + " bytes is not inside of a heap");
    return *found;
}

}  // namespace

/// The view in use is dropped: work that runs later sets its own.
void GlobalMemory::add(void* begin, std::size_t bytes) {
    auto& allocations = shadow_->allocations;
    if (meets_any(allocations, number(begin), bytes, [](const Allocation& a) { return a.whole; }))
        throw Fault("device memory is registered twice");
    allocations.try_emplace(number(begin), number(begin), bytes);
    use(nullptr);
    shadow_->changed();
}

void GlobalMemory::remove(void* begin) {
    shadow_->allocations.erase(number(begin));
    use(nullptr);
    shadow_->changed();
}

void GlobalMemory::make_heap(const void* begin) {
    const auto found = shadow_->allocations.find(number(begin));
    if (found == shadow_->allocations.end() || found->second.is_heap)
        throw Fault("only an allocation of device memory that is not yet a heap can become one");
    found->second.is_heap = true;
    shadow_->changed();
}

void GlobalMemory::end_heap(const void* begin) {
    Allocation& heap = heap_at(*shadow_, begin);
    heap.ended = true;
    heap.regions.clear();
    shadow_->changed();
}

void GlobalMemory::add_region(const void* begin, std::size_t bytes) {
    Allocation& heap = heap_around(*shadow_, begin, bytes);
    if (meets_any(heap.regions, number(begin), bytes, [](const GlobalRange& r) { return r; }))
        throw Fault("a region overlaps another one of its heap");
    heap.regions.emplace(number(begin), heap.region(number(begin), bytes));
    shadow_->changed();
}

void GlobalMemory::remove_region(const void* begin) {
    if (!heap_around(*shadow_, begin, 1).regions.erase(number(begin)))
        throw Fault("a region is removed that is not registered");
    shadow_->changed();
}

std::shared_ptr<const GlobalMemory::View> GlobalMemory::view() const { return shadow_->newest(); }

void GlobalMemory::use(std::shared_ptr<const View> view) {
    if (view == shadow_->view) return;
    shadow_->view = std::move(view);
    shadow_->recent = nullptr;
}

bool GlobalMemory::contains(const void* begin, std::size_t bytes) const {
    return shadow_->find(reinterpret_cast<std::uintptr_t>(begin), bytes) != nullptr;
}

std::string place_text(GlobalMemory::Shadow& shadow, std::uintptr_t at) {
    constexpr std::size_t kNear = 4096;
    const auto& ranges = shadow.what_may_be_touched().ranges;
    const auto after =
        std::upper_bound(ranges.begin(), ranges.end(), at,
                         [](std::uintptr_t address, const GlobalRange& range) { return address < range.begin; });
    std::string what;
    if (after != ranges.begin() && at < std::prev(after)->end + kNear)
        what += " (byte " + std::to_string(at - std::prev(after)->begin) + " of an allocation of " +
                std::to_string(std::prev(after)->end - std::prev(after)->begin) + " bytes)";
    if (after != ranges.end() && at + kNear >= after->begin)
        what += " (" + std::to_string(after->begin - at) + " bytes before an allocation)";
    if (Allocation* whole = shadow.allocation_of(at, 1); whole && whole->is_heap)
        what += " (byte " + std::to_string(at - whole->whole.begin) + " of a heap of " +
                std::to_string(whole->whole.end - whole->whole.begin) + " bytes)";
    return what;
}

void GlobalMemory::wrote(const void* begin, std::size_t bytes) {
    const auto from = reinterpret_cast<std::uintptr_t>(begin);
    const GlobalRange* range = shadow_->find(from, bytes);
    if (!range)
        throw Fault("a write of " + std::to_string(bytes) + " bytes is not inside of one allocation of device memory" +
                    place_text(*shadow_, from));
    set_bits(range->written.get(), from - range->base, bytes);
}

void GlobalMemory::require_written(const void* begin, std::size_t bytes, std::string_view who) const {
    const auto from = reinterpret_cast<std::uintptr_t>(begin);
    const GlobalRange* range = shadow_->find(from, bytes);
    if (!range)
        throw Fault(std::string(who) + " reads " + std::to_string(bytes) +
                    " bytes that are not inside of one allocation of device memory" + place_text(*shadow_, from));
    const auto* bits = range->written.get();
    if (all_set(bits, from - range->base, bytes)) return;
    std::size_t first = 0;
    while (all_set(bits, from - range->base + first, 1)) ++first;
    throw Fault(std::string(who) + " reads " + std::to_string(bytes) + " bytes of device memory, of which byte " +
                std::to_string(first) + " (byte " + std::to_string(from + first - range->begin) +
                " of its allocation) was never written");
}

}  // namespace sim::ptx
