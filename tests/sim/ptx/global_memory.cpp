// Registered device memory and its bitmap of written bytes.
#include <sys/mman.h>

#include <algorithm>
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

GlobalRange::GlobalRange(std::uintptr_t from, std::size_t bytes)
    : begin(from),
      end(from + bytes),
      base(from & ~std::uintptr_t{3}),
      written((bytes + 4) / 8 + 64),
      write_tick(bytes + 256),
      writer(bytes + 256),
      read_tick(bytes + 256),
      reader(bytes + 256) {}

void LazyMemory::clear() { madvise(data_, bytes_, MADV_DONTNEED); }

void GlobalRange::forget() {
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

GlobalRange* GlobalMemory::Shadow::find(std::uintptr_t begin, std::size_t bytes) {
    if (recent < ranges.size() && begin >= ranges[recent].begin && begin + bytes <= ranges[recent].end) return &ranges[recent];
    const auto after = std::upper_bound(ranges.begin(), ranges.end(), begin, [](std::uintptr_t at, const GlobalRange& range) { return at < range.begin; });
    if (after == ranges.begin()) return nullptr;
    GlobalRange& range = *std::prev(after);
    if (begin + bytes > range.end || begin + bytes < begin) return nullptr;
    recent = static_cast<std::size_t>(&range - ranges.data());
    return &range;
}

GlobalMemory::Shadow::Shadow() : shared(std::make_unique<SharedMemory>()) {}
GlobalMemory::Shadow::~Shadow() = default;

void GlobalMemory::Shadow::begin_launch() {
    constexpr std::uint32_t kLate = 0xf0000000u;  // far enough from the marks of split words for any launch
    if (!split.empty()) split.clear();
    if (tick < kLate) return;
    tick = 0;
    shared = std::make_unique<SharedMemory>();
    for (GlobalRange& range : ranges) range.forget();
}

GlobalMemory::GlobalMemory() : shadow_(std::make_unique<Shadow>()) {}
GlobalMemory::~GlobalMemory() = default;

void GlobalMemory::add(void* begin, std::size_t bytes) {
    const auto from = reinterpret_cast<std::uintptr_t>(begin);
    auto& ranges = shadow_->ranges;
    const auto after = std::upper_bound(ranges.begin(), ranges.end(), from, [](std::uintptr_t at, const GlobalRange& range) { return at < range.begin; });
    if ((after != ranges.end() && from + bytes > after->begin) || (after != ranges.begin() && std::prev(after)->end > from))
        throw Fault("device memory is registered twice");
    std::vector<GlobalRange> next;
    next.reserve(ranges.size() + 1);
    for (auto it = ranges.begin(); it != after; ++it) next.push_back(std::move(*it));
    next.emplace_back(from, bytes);
    for (auto it = after; it != ranges.end(); ++it) next.push_back(std::move(*it));
    ranges.swap(next);
    shadow_->recent = 0;
}

void GlobalMemory::remove(void* begin) {
    const auto from = reinterpret_cast<std::uintptr_t>(begin);
    std::vector<GlobalRange> next;
    for (GlobalRange& range : shadow_->ranges)
        if (range.begin != from) next.push_back(std::move(range));
    shadow_->ranges.swap(next);
    shadow_->recent = 0;
}

bool GlobalMemory::contains(const void* begin, std::size_t bytes) const { return shadow_->find(reinterpret_cast<std::uintptr_t>(begin), bytes) != nullptr; }

void GlobalMemory::wrote(const void* begin, std::size_t bytes) {
    const auto from = reinterpret_cast<std::uintptr_t>(begin);
    GlobalRange* range = shadow_->find(from, bytes);
    if (!range) throw Fault("a write of " + std::to_string(bytes) + " bytes is not inside of one allocation of device memory");
    set_bits(range->written.as<std::uint8_t>(), from - range->base, bytes);
}

void GlobalMemory::require_written(const void* begin, std::size_t bytes, std::string_view who) const {
    const auto from = reinterpret_cast<std::uintptr_t>(begin);
    const GlobalRange* range = shadow_->find(from, bytes);
    if (!range) throw Fault(std::string(who) + " reads " + std::to_string(bytes) + " bytes that are not inside of one allocation of device memory");
    const auto* bits = range->written.as<const std::uint8_t>();
    if (all_set(bits, from - range->base, bytes)) return;
    std::size_t first = 0;
    while (all_set(bits, from - range->base + first, 1)) ++first;
    throw Fault(std::string(who) + " reads " + std::to_string(bytes) + " bytes of device memory, of which byte " + std::to_string(first) + " (byte " +
                std::to_string(from + first - range->begin) + " of its allocation) was never written");
}

}  // namespace sim::ptx
