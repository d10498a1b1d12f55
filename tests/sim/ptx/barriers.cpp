// The barriers bar.sync, bar.arrive, bar.red, barrier.* (of a block) and bar.warp.sync (of a warp), and the order of
// accesses that they establish.
#include <algorithm>
#include <bit>

#include "sim/ptx/lanes.h"
#include "sim/ptx/schedule.h"

namespace sim::ptx {

namespace {

/// What a barrier instruction does besides waiting.
enum Reduction : std::uint8_t { kNoReduction, kPopulation, kAnd, kOr };

std::uint32_t uniform(Warp& warp, Row at, const char* what) {
    const std::uint32_t* value = row<std::uint32_t>(warp, at);
    if (warp.live & ~written(value)) fault(warp, warp.live & ~written(value), std::string(what) + " was never written");
    const std::uint32_t first = value[std::countr_zero(warp.live)];
    for (Lanes left = warp.live; left; left &= left - 1)
        if (value[std::countr_zero(left)] != first)
            fault(warp, warp.live, std::string(what) + " differs between the lanes");
    return first;
}

void open(Block& block, unsigned number) {
    Barrier& barrier = block.barriers[number];
    const std::uint32_t now = ++*block.tick;
    for (Lanes left = barrier.warps; left; left &= left - 1) {
        Warp& warp = block.warps[static_cast<std::size_t>(std::countr_zero(left))];
        // A warp that waited now sees what the other warps did before they arrived, and whatever they had seen.
        for (std::size_t w = 0; w < warp.seen.size(); ++w)
            warp.seen[w] = barrier.members >> w & 1 ? now : std::max(warp.seen[w], barrier.seen[w]);
        warp.ordered = *std::min_element(warp.seen.begin(), warp.seen.end());
        warp.lane_seen.clear();
        warp.barrier = -1;
        const Instruction& i = block.kernel->code[warp.barrier_pc];
        if (i.count == kPopulation) {
            auto* d = row<std::uint32_t>(warp, i.d);
            for (unsigned l = 0; l < kLanes; ++l) d[l] = barrier.number_true;
            mark(d, warp.live, kAll);
        } else if (i.count != kNoReduction) {
            const bool all = i.count == kAnd ? barrier.number_true == barrier.number_asked : barrier.number_true > 0;
            set_predicate(warp, i.d, warp.live, all ? kAll : 0, kAll);
        }
    }
    barrier = Barrier{};
    block.settled = now;
    for (const Warp& warp : block.warps)
        if (warp.live) block.settled = std::min(block.settled, warp.ordered);
}

void reduce(Warp& warp, const Instruction& i, Barrier& barrier) {
    const Lanes* p = row<Lanes>(warp, i.c);
    if (warp.live & ~written(p)) fault(warp, warp.live & ~written(p), "the predicate was never written");
    barrier.number_true += static_cast<unsigned>(std::popcount((i.flag ? ~*p : *p) & warp.live));
    barrier.number_asked += static_cast<unsigned>(std::popcount(warp.live));
}

}  // namespace

void arrive_at_barrier(Warp& warp, const Instruction& i, bool waits) {
    Block& block = *warp.block;
    const std::uint32_t number = uniform(warp, i.a, "the barrier's number");
    if (number >= block.barriers.size()) fault(warp, warp.live, "barrier " + std::to_string(number) + " of 16");
    const unsigned rounded = (block.threads + kLanes - 1) / kLanes * kLanes,
                   expected = i.b == kNoRow ? rounded : uniform(warp, i.b, "the barrier's number of threads");
    if (expected == 0 || expected % kLanes != 0 || expected > rounded)
        fault(warp, warp.live,
              "a barrier for " + std::to_string(expected) + " threads in a block of " + std::to_string(block.threads));
    if (warp.live != warp.started && i.b == kNoRow)
        fault(warp, warp.started & ~warp.live, "a barrier of the block is reached after these threads have left");
    Barrier& barrier = block.barriers[number];
    if (barrier.members == 0)
        barrier.expected = expected, barrier.pc = warp.pc, barrier.seen.assign(block.warps.size(), 0);
    if (barrier.expected != expected)
        fault(warp, warp.live,
              "the barrier waits for " + std::to_string(barrier.expected) + " threads at " +
                  instruction_text(*block.kernel, barrier.pc) + ", here for " + std::to_string(expected));
    if (barrier.members >> warp.index & 1) fault(warp, warp.live, "arrives twice at a barrier that has not opened");
    if (i.count != kNoReduction) reduce(warp, i, barrier);
    barrier.members |= 1u << warp.index;
    barrier.arrived += kLanes;
    for (std::size_t w = 0; w < warp.seen.size(); ++w) barrier.seen[w] = std::max(barrier.seen[w], warp.seen[w]);
    if (waits) {
        barrier.warps |= 1u << warp.index;
        warp.barrier = static_cast<int>(number);
        warp.barrier_pc = warp.pc;
    }
    if (barrier.arrived >= barrier.expected) open(block, number);
}

namespace {

/// Orders a part of the lanes: each member has then seen the others up to now, and whatever any of them had seen.
void order_lanes(Warp& warp, Lanes members, std::uint32_t now) {
    if (warp.lane_seen.empty()) {
        warp.lane_seen.resize(kLanes);
        for (auto& seen : warp.lane_seen) seen.fill(warp.seen[warp.index]);
    }
    std::array<std::uint32_t, kLanes> seen{};
    for (Lanes left = members; left; left &= left - 1) {
        const auto& of_one = warp.lane_seen[static_cast<std::size_t>(std::countr_zero(left))];
        for (unsigned l = 0; l < kLanes; ++l) seen[l] = members >> l & 1 ? now : std::max(seen[l], of_one[l]);
    }
    for (Lanes left = members; left; left &= left - 1)
        warp.lane_seen[static_cast<std::size_t>(std::countr_zero(left))] = seen;
}

/// bar.warp.sync: accesses of the lanes of one member mask before it are ordered before their accesses after it.
void order_warp(Warp& warp, const Instruction& i, Lanes lanes) {
    const std::uint32_t now = ++*warp.block->tick;
    const std::uint32_t* mask = row<std::uint32_t>(warp, i.e);
    if (mask[std::countr_zero(lanes)] == warp.live) {
        warp.seen[warp.index] = now;
        warp.ordered = *std::min_element(warp.seen.begin(), warp.seen.end());
        warp.lane_seen.clear();
        return;
    }
    for (Lanes left = lanes; left; left &= ~mask[std::countr_zero(left)])
        order_lanes(warp, mask[std::countr_zero(left)], now);
}

void decode_warp_barrier(Decoder& d) {
    if (!d.take("sync")) d.fail("bar.warp needs .sync");
    d.expect_operands(1);
    d.out.control = Control::masked;
    d.out.run = &order_warp;
    d.out.e = d.source(0, Type::b32);
}

void decode_reduction(Decoder& d) {
    const std::string_view how = d.take_any({"popc", "and", "or"});
    if (how.empty()) d.fail("bar.red needs .popc, .and or .or");
    const Type type = d.need_type();
    if (type != (how == "popc" ? Type::u32 : Type::pred)) d.fail_type(type);
    d.expect_operands(3, 4);
    d.out.control = Control::barrier;
    d.out.count = how == "popc" ? kPopulation : how == "and" ? kAnd : kOr;
    d.out.d = d.target(0, type);
    d.out.a = d.source(1, Type::b32);
    if (d.operands.size() == 4) d.out.b = d.source(2, Type::b32);
    Operand p = d.operands.back();
    d.out.flag = p.negated;
    p.negated = false;
    d.out.c = d.source(p, Type::pred);
}

void decode_barrier(Decoder& d) {
    d.take("cta");
    d.take("aligned");
    if (d.take("warp")) return decode_warp_barrier(d);
    if (d.take("red")) return decode_reduction(d);
    const bool arrives = d.take("arrive");
    if (!arrives && !d.take("sync")) d.fail("a barrier needs .sync, .arrive or .red");
    d.expect_operands(arrives ? 2 : 1, 2);
    d.out.control = arrives ? Control::arrive : Control::barrier;
    d.out.count = kNoReduction;
    d.out.a = d.source(0, Type::b32);
    if (d.operands.size() == 2) d.out.b = d.source(1, Type::b32);
}

}  // namespace

void add_barrier_operations(Operations& operations) { operations["bar"] = operations["barrier"] = &decode_barrier; }

}  // namespace sim::ptx
