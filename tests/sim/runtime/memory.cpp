// Memory: the known blocks by address, and the address space that they get.
#include "sim/runtime/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <map>

#include "sim/runtime/process.h"
#include "sim/runtime/totals.h"

namespace sim::runtime {
namespace {

constexpr std::size_t kPage = 4096, kGuard = std::size_t{1} << 20, kGranularity = 512;
/// Device memory begins here if the system allows it, so that addresses are the same in every run.
constexpr std::uintptr_t kFirstAddress = 0x2000'0000'0000;

struct State {
    std::map<std::uintptr_t, Block> blocks;
    std::map<int, std::unique_ptr<ptx::GlobalMemory>> memories;
    std::map<int, std::size_t> in_use;
    std::uintptr_t next_address = kFirstAddress;
};
State& state() {
    static State* const all = new State;  // never destroyed: copies may still run while the process ends
    return *all;
}

std::uintptr_t number(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }
std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

/// Kernels of all devices may access mapped host memory. What the host writes there is not followed, so all of it
/// counts as written.
void map_into(ptx::GlobalMemory& memory, const Block& block) {
    memory.add(block.begin, block.bytes);
    memory.wrote(block.begin, block.bytes);
}

void add_pinned(const Block& block) {
    state().blocks[number(block.begin)] = block;
    if (block.mapped)
        for (auto& [device, memory] : state().memories) map_into(*memory, block);
}

/// SIM_HIDDEN: outside of the API the process cannot access device memory, as on a real GPU.
void show_or_hide(bool inside) {
    for (const auto& [address, block] : state().blocks)
        if (block.place == Place::device)
            mprotect(block.begin, round_up(block.bytes, kPage), inside ? PROT_READ | PROT_WRITE : PROT_NONE);
}

std::map<std::uintptr_t, Block>::iterator block_at(void* begin) { return state().blocks.find(number(begin)); }

}  // namespace

ptx::GlobalMemory& global_memory(int device) {
    auto& memory = state().memories[device];
    if (!memory) {
        memory = std::make_unique<ptx::GlobalMemory>();
        for (const auto& [address, block] : state().blocks)
            if (block.mapped) map_into(*memory, block);
    }
    return *memory;
}

void* allocate_device(int device, std::size_t bytes) {
    const std::size_t charged = round_up(bytes, kGranularity);
    if (charged < bytes || charged > device_bytes_free(device)) return nullptr;
    const std::size_t usable = round_up(bytes, kPage), whole = usable + 2 * kGuard;
    void* reserved = mmap(reinterpret_cast<void*>(state().next_address), whole, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) return nullptr;
    state().next_address += whole;
    auto* begin = static_cast<std::byte*>(reserved) + kGuard;
    if (mprotect(begin, usable, PROT_READ | PROT_WRITE) != 0) {
        munmap(reserved, whole);
        return nullptr;
    }
    state().blocks[number(begin)] = {
        .begin = begin, .bytes = bytes, .place = Place::device, .device = device, .mapped = false};
    global_memory(device).add(begin, bytes);
    if (settings().hidden) api_lock().crossed = show_or_hide;
    state().in_use[device] += charged;
    totals().allocations += 1;
    totals().allocated_bytes += bytes;
    return begin;
}

bool free_device(void* begin) {
    const auto found = block_at(begin);
    if (found == state().blocks.end() || found->second.place != Place::device) return false;
    const Block block = found->second;
    global_memory(block.device).remove(begin);
    state().blocks.erase(found);
    state().in_use[block.device] -= round_up(block.bytes, kGranularity);
    totals().allocated_bytes -= block.bytes;
    munmap(block.begin - kGuard, round_up(block.bytes, kPage) + 2 * kGuard);
    return true;
}

std::size_t device_bytes_free(int device) {
    const std::size_t all = settings().device_memory_bytes, used = state().in_use[device];
    return all - std::min(all, used);
}

void* allocate_pinned(std::size_t bytes, unsigned flags, bool mapped, int device) {
    void* begin = mmap(nullptr, round_up(bytes, kPage), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) return nullptr;
    add_pinned({.begin = static_cast<std::byte*>(begin),
                .bytes = bytes,
                .place = Place::pinned,
                .device = device,
                .flags = flags,
                .mapped = mapped});
    totals().pinned_allocations += 1;
    return begin;
}

bool register_pinned(void* begin, std::size_t bytes, unsigned flags, bool mapped, int device) {
    const auto above = state().blocks.lower_bound(number(begin) + bytes);
    if (above != state().blocks.begin()) {
        const Block& below = std::prev(above)->second;
        if (number(below.begin) + below.bytes > number(begin)) return false;
    }
    add_pinned({.begin = static_cast<std::byte*>(begin),
                .bytes = bytes,
                .place = Place::pinned,
                .device = device,
                .flags = flags,
                .mapped = mapped,
                .registered = true});
    totals().pinned_allocations += 1;
    return true;
}

bool free_pinned(void* begin, bool registered) {
    const auto found = block_at(begin);
    if (found == state().blocks.end() || found->second.place != Place::pinned || found->second.registered != registered)
        return false;
    const Block block = found->second;
    if (block.mapped)
        for (auto& [device, memory] : state().memories) memory->remove(begin);
    state().blocks.erase(found);
    if (!registered) munmap(begin, round_up(block.bytes, kPage));
    return true;
}

const Block* find_block(const void* address) {
    const auto above = state().blocks.upper_bound(number(address));
    if (above == state().blocks.begin()) return nullptr;
    const Block& block = std::prev(above)->second;
    return number(address) < number(block.begin) + block.bytes ? &block : nullptr;
}

Place place_of(const void* address, std::size_t bytes, std::string_view who) {
    const Block* block = find_block(address);
    const Block* last = bytes ? find_block(static_cast<const std::byte*>(address) + (bytes - 1)) : block;
    if (block == last) return block ? block->place : Place::pageable;
    const Block& named = block ? *block : *last;
    misuse(who, ": ", bytes, " bytes at ", address, " reach over the bounds of the ",
           named.place == Place::device ? "device" : "pinned host", " memory [", static_cast<const void*>(named.begin),
           ", +", named.bytes, ")");
}

void require_device(const void* address, std::size_t bytes, int device, std::string_view who, std::string_view what) {
    if (!bytes) return;
    const Block* block = find_block(address);
    if (!block || block->place != Place::device)
        misuse(who, ": ", what, " ", address, " is not device memory (",
               block ? "pinned host memory" : "host memory, never allocated, or freed", ")");
    place_of(address, bytes, who);
    if (block->device != device)
        misuse(who, ": ", what, " ", address, " is memory of device ", block->device, ", the stream is on device ",
               device);
}

bool overlap(const Rows& a, const Rows& b) {
    if (!a.width || !a.height || !b.width || !b.height) return false;
    const std::uintptr_t first = number(b.begin), end = first + (b.height - 1) * b.pitch + b.width;
    for (std::size_t row = 0; row < a.height; ++row) {
        const std::uintptr_t begin = number(a.begin) + row * a.pitch;
        if (begin >= end || begin + a.width <= first) continue;
        // The last row of b that begins before this row of a ends.
        const std::uintptr_t last = begin + a.width - 1;
        const std::size_t other = b.height > 1 ? std::min<std::size_t>(b.height - 1, (last - first) / b.pitch) : 0;
        if (first + other * b.pitch + b.width > begin) return true;
    }
    return false;
}

}  // namespace sim::runtime
