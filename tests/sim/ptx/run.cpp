// Runs a launch: blocks one after another, warps of a block in turns from barrier to barrier, in a fixed order or, with
// Launch::reversed, in the reverse one.
#include <algorithm>
#include <cstring>

#include "sim/ptx/global_shadow.h"
#include "sim/ptx/lanes.h"
#include "sim/ptx/schedule.h"
#include "sim/ptx/shared_memory.h"
#include "sim/ptx/statistics.h"

namespace sim::ptx {

namespace {

constexpr unsigned kMostThreads = 1024;

std::uint32_t special_value(const Block& block, unsigned which, unsigned thread) {
    const Extent &size = block.launch->block, &grid = block.launch->grid;
    const unsigned lane = thread % kLanes;
    switch (which) {
        case 0:
            return thread % size.x;
        case 1:
            return thread / size.x % size.y;
        case 2:
            return thread / size.x / size.y;
        case 3:
            return size.x;
        case 4:
            return size.y;
        case 5:
            return size.z;
        case 6:
            return block.index.x;
        case 7:
            return block.index.y;
        case 8:
            return block.index.z;
        case 9:
            return grid.x;
        case 10:
            return grid.y;
        case 11:
            return grid.z;
        case 12:
            return lane;
        case 13:
            return thread / kLanes;
        case 14:
            return (block.threads + kLanes - 1) / kLanes;
        case 15:
            return 1u << lane;
        case 16:
            return (1u << lane) - 1;
        case 17:
            return (2u << lane) - 1;
        case 18:
            return ~((2u << lane) - 1);
        case 19:
            return ~((1u << lane) - 1);
        case 21:
            return 1;  // %nsmid
        default:
            return 0;  // %smid, %gridid, %envreg
    }
}

/// %ctaid changes with the block; the others change only with the launch.
bool changes_with_block(const SpecialRow& special) {
    return (special.which & 0x7f) >= 6 && (special.which & 0x7f) <= 8;
}

void fill_specials(Warp& warp, bool of_block) {
    const Block& block = *warp.block;
    for (const SpecialRow& special : block.kernel->specials) {
        if (changes_with_block(special) != of_block) continue;
        char* to = warp.base[0] + special.row;
        for (unsigned l = 0; l < kLanes; ++l) {
            const std::uint64_t value = special_value(block, special.which & 0x7f, warp.index * kLanes + l);
            if (special.which & 0x80) std::memcpy(to + l * 8, &value, 8);
            else std::memcpy(to + l * 4, &value, 4);
        }
        written(to) = kAll;
    }
}

/// Registers and local memory of all warps of a block; made once per launch.
struct Stores {
    std::vector<char> registers, local;
    std::vector<std::uint8_t> local_written;
    std::size_t register_stride = 0;
};

void begin_block(Block& block, Stores& stores) {
    const Kernel& kernel = *block.kernel;
    block.first_tick = block.settled = ++*block.tick;
    block.barriers.fill({});
    std::fill(stores.local_written.begin(), stores.local_written.end(), std::uint8_t{0});
    for (Warp& warp : block.warps) {
        for (const Row at : kernel.rows) written(warp.base[0] + at) = 0;
        const unsigned here = std::min(kLanes, block.threads - warp.index * kLanes);
        warp.live = warp.started = here == kLanes ? kAll : (1u << here) - 1;
        warp.parked = warp.carry = 0;
        warp.pc = 0;
        warp.lane_pc.fill(0);
        warp.barrier = -1;
        warp.ordered = block.first_tick;
        std::fill(warp.seen.begin(), warp.seen.end(), block.first_tick);
        warp.lane_seen.clear();
        for (AsyncCopies& copies : warp.copies) copies.forget();
        fill_specials(warp, true);
    }
}

void make_warps(Block& block, Stores& stores) {
    const Kernel& kernel = *block.kernel;
    const unsigned number = (block.threads + kLanes - 1) / kLanes;
    // The rows of different warps must not fall into one set of the cache.
    stores.register_stride = (kernel.register_bytes + 127) / 64 * 64 + 64;
    stores.registers.assign(stores.register_stride * number + 64, 0);
    stores.local.assign(kernel.local_bytes * kLanes * number + 16, 0);
    stores.local_written.assign(stores.local.size(), 0);
    char* const first = stores.registers.data() + (64 - reinterpret_cast<std::uintptr_t>(stores.registers.data()) % 64);
    block.warps.resize(number);
    for (unsigned w = 0; w < number; ++w) {
        Warp& warp = block.warps[w];
        warp.block = &block;
        warp.index = w;
        warp.base = {first + w * stores.register_stride,
                     const_cast<char*>(reinterpret_cast<const char*>(kernel.constants.data()))};
        warp.seen.assign(number, 0);
        warp.local = stores.local.data() + w * kLanes * kernel.local_bytes +
                     (16 - reinterpret_cast<std::uintptr_t>(stores.local.data()) % 16) % 16;
        warp.local_written = stores.local_written.data() + w * kLanes * kernel.local_bytes;
        fill_specials(warp, false);
    }
}

void check_launch(const Launch& launch) {
    const Kernel& kernel = *launch.kernel;
    const auto refuse = [&](const std::string& what) { throw Fault(kernel.pretty + ": " + what); };
    if (launch.block.count() == 0 || launch.block.count() > kMostThreads)
        refuse("a block of " + std::to_string(launch.block.count()) + " threads");
    if (launch.grid.count() == 0) refuse("a grid without blocks");
    if (kernel.max_threads && launch.block.count() > kernel.max_threads)
        refuse("a block of " + std::to_string(launch.block.count()) + " threads, more than .maxntid " +
               std::to_string(kernel.max_threads));
    if (launch.parameters.size() < kernel.parameter_bytes)
        refuse(std::to_string(launch.parameters.size()) + " bytes of parameters instead of " +
               std::to_string(kernel.parameter_bytes));
}

}  // namespace

void run_block(Block& block) {
    for (;;) {
        bool ran = false, waits = false;
        const std::size_t number = block.warps.size();
        for (std::size_t k = 0; k < number; ++k) {
            Warp& warp = block.warps[block.reversed ? number - 1 - k : k];
            if (warp.live && warp.barrier < 0) {
                run_warp(warp);
                ran = true;
            }
            waits |= warp.live != 0;
        }
        if (!waits) return;
        if (ran) continue;
        for (Warp& warp : block.warps)
            if (warp.live) {
                warp.pc = warp.barrier_pc;
                const Barrier& barrier = block.barriers[static_cast<std::size_t>(warp.barrier)];
                fault(warp, warp.live,
                      "waits at barrier " + std::to_string(warp.barrier) +
                          " for ever: " + std::to_string(barrier.arrived) + " of " + std::to_string(barrier.expected) +
                          " threads came, the others have left or wait elsewhere (barrier reached by a part of the "
                          "block)");
            }
    }
}

void add_variables(const Kernel& kernel, GlobalMemory& memory) {
    if (!kernel.uses_variables) return;
    for (const Variable& variable : kernel.module->variables) {
        if (variable.bytes == 0 ||
            memory.shadow().allocation_of(reinterpret_cast<std::uintptr_t>(variable.address), variable.bytes))
            continue;
        memory.add(variable.address, variable.bytes);
        memory.wrote(variable.address, variable.bytes);
    }
}

void run(const Launch& launch, GlobalMemory& memory, Counts& counts) {
    check_launch(launch);
    const Kernel& kernel = *launch.kernel;
    GlobalMemory::Shadow& shadow = memory.shadow();
    add_variables(kernel, memory);
    shadow.begin_launch();
    Counts now;
    std::vector<std::uint64_t> executed(kernel.code.size());
    std::vector<double> worst(2 * kernel.code.size());
    SharedMemory& shared = *shadow.shared;
    shared.resize(launch.dynamic_shared_bytes ? dynamic_shared_begin(kernel) + launch.dynamic_shared_bytes
                                              : kernel.static_shared);
    Block block;
    block.kernel = &kernel, block.launch = &launch, block.global = &shadow, block.shared = &shared, block.counts = &now,
    block.executed = &executed;
    block.worst_bank_conflict = worst.data(), block.worst_sectors = worst.data() + kernel.code.size();
    block.tick = &shadow.tick;
    block.launch_tick = shadow.tick + 1;
    block.threads = static_cast<unsigned>(launch.block.count());
    Stores stores;
    make_warps(block, stores);
    block.reversed = launch.reversed;
    for (std::uint64_t k = 0; k < launch.grid.count(); ++k) {
        const std::uint64_t at = block.reversed ? launch.grid.count() - 1 - k : k;
        block.index = {static_cast<unsigned>(at % launch.grid.x),
                       static_cast<unsigned>(at / launch.grid.x % launch.grid.y),
                       static_cast<unsigned>(at / launch.grid.x / launch.grid.y)};
        begin_block(block, stores);
        run_block(block);
    }
    add_counts(block, std::move(now), counts);
}

}  // namespace sim::ptx
