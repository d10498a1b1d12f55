// Schedules the lanes of a warp. Each lane has its own place in the program. The lanes at the smallest place run
// together until they reach the place of other lanes. Then they continue together with these (nvcc lays code out so
// that branches meet again there). Lanes that reach a *.sync wait there for the lanes that it names.
#include <bit>

#include "sim/ptx/async.h"
#include "sim/ptx/lanes.h"
#include "sim/ptx/schedule.h"

namespace sim::ptx {

namespace {

constexpr std::uint32_t kNone = 0xffffffffu;
/// Of a warp between two barriers; a program that runs more is taken for one that never ends.
constexpr std::uint64_t kMostInstructions = std::uint64_t{1} << 31;

/// The lanes that run now, and the smallest place of the ready lanes that do not.
struct Group {
    Lanes active = 0;
    std::uint32_t pc = 0, others = kNone;  ///< others: the smallest place of lanes that could run too
};

[[noreturn]] void report_deadlock(Warp& warp) {
    const unsigned first = static_cast<unsigned>(std::countr_zero(warp.parked));
    warp.pc = warp.lane_pc[first];
    Lanes here = 0, elsewhere = 0;
    unsigned other = first;
    for (unsigned l = 0; l < kLanes; ++l) {
        if (!(warp.parked >> l & 1)) continue;
        (warp.lane_pc[l] == warp.pc ? here : elsewhere) |= 1u << l;
        if (warp.lane_pc[l] != warp.pc) other = l;
    }
    std::string what = "a .sync instruction is reached by lanes " + lanes_text(here) + " only";
    if (const Lanes left = warp.started & ~warp.live) what += "; lanes " + lanes_text(left) + " have left";
    if (warp.started != kAll) what += "; lanes " + lanes_text(~warp.started) + " do not exist in this block";
    if (elsewhere)
        what += "; lanes " + lanes_text(elsewhere) + " wait at " +
                instruction_text(*warp.block->kernel, warp.lane_pc[other]);
    fault(warp, here, what + " (divergence)");
}

/// Selects the lanes at the smallest place among those that do not wait.
Group select(Warp& warp) {
    Group group;
    const Lanes ready = warp.live & ~warp.parked;
    if (!ready) report_deadlock(warp);
    group.pc = kNone;
    for (Lanes left = ready; left; left &= left - 1)
        group.pc = std::min(group.pc, warp.lane_pc[std::countr_zero(left)]);
    for (Lanes left = ready; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        if (warp.lane_pc[l] == group.pc) group.active |= 1u << l;
        else group.others = std::min(group.others, warp.lane_pc[l]);
    }
    return group;
}

void put(Warp& warp, Lanes lanes, std::uint32_t pc) {
    for (; lanes; lanes &= lanes - 1) warp.lane_pc[std::countr_zero(lanes)] = pc;
}

/// The lanes that wait at `pc`.
Lanes waiting_at(const Warp& warp, std::uint32_t pc) {
    Lanes result = 0;
    for (Lanes left = warp.parked; left; left &= left - 1)
        if (const unsigned l = static_cast<unsigned>(std::countr_zero(left)); warp.lane_pc[l] == pc) result |= 1u << l;
    return result;
}

/// Whether all lanes that a *.sync needs are among `here`.
bool complete(Warp& warp, const Instruction& i, Lanes here) {
    if (i.control == Control::collective) return here == kAll;
    if (i.control != Control::masked) return here == warp.live;
    const std::uint32_t* mask = row<std::uint32_t>(warp, i.e);
    if (here & ~written(mask)) fault(warp, here & ~written(mask), "the member mask was never written");
    for (Lanes left = here; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        if (!(mask[l] >> l & 1))
            fault(warp, 1u << l, "the member mask " + lanes_text(mask[l]) + " does not name the lane itself");
        if (mask[l] & ~here) return false;
    }
    return true;
}

/// Lets lanes leave; none of them may have copies in flight.
void leave(Warp& warp, Lanes lanes) {
    check_no_copies(warp, lanes);
    warp.live &= ~lanes;
}

struct Runner {
    Warp& warp;
    const Instruction* code;
    std::uint64_t* executed;
    Group group;

    void save(std::uint32_t pc) { put(warp, group.active, pc); }
    /// Called when `lanes` have gone elsewhere (their place is saved); the other active lanes go to the next
    /// instruction.
    void split(Lanes lanes) {
        put(warp, group.active & ~lanes, group.pc + 1);
        group = select(warp);
    }
    /// Lets `lanes` go to `target`, and the other active lanes to the next instruction.
    void go(Lanes lanes, std::uint32_t target) {
        if (lanes == group.active) {
            group.pc = target;
            return;
        }
        if (lanes == 0) {
            ++group.pc;
            return;
        }
        put(warp, lanes, target);
        split(lanes);
    }
    void go_each(Lanes lanes, const Instruction& i) {
        const std::uint32_t* index = row<std::uint32_t>(warp, i.a);
        if (lanes & ~written(index)) fault(warp, lanes & ~written(index), "jumps by a register that was never written");
        for (Lanes left = lanes; left; left &= left - 1) {
            const unsigned l = static_cast<unsigned>(std::countr_zero(left));
            if (i.control == Control::indexed && index[l] >= i.target)
                fault(warp, 1u << l, "branch target " + std::to_string(index[l]) + " of " + std::to_string(i.target));
            warp.lane_pc[l] = i.control == Control::indexed ? warp.block->kernel->lists[i.list + index[l]] : index[l];
        }
        split(lanes);
    }
    void call(Lanes lanes, const Instruction& i) {
        auto* back = row<std::uint32_t>(warp, i.a);
        for (Lanes left = lanes; left; left &= left - 1) back[std::countr_zero(left)] = group.pc + 1;
        mark(back, lanes, kAll);
        go(lanes, warp.block->kernel->functions[i.target].entry);
    }
    /// Handles a *.sync: runs it if all its lanes are here; otherwise these lanes wait. True: the warp is at a barrier
    /// of the block.
    bool meet(Lanes lanes, const Instruction& i) {
        const std::uint32_t pc = group.pc;
        const Lanes here = lanes | waiting_at(warp, pc);
        if (!complete(warp, i, here)) {
            put(warp, lanes, pc);
            put(warp, group.active & ~lanes, pc + 1);
            warp.parked |= lanes;
            group = select(warp);
            return false;
        }
        warp.parked &= ~here;
        if (i.control == Control::barrier || i.control == Control::arrive) {
            put(warp, here | group.active, pc + 1);
            arrive_at_barrier(warp, i, i.control == Control::barrier);
            if (i.control == Control::barrier) return true;
        } else {
            i.run(warp, i, here);
            put(warp, here | group.active, pc + 1);
        }
        if ((here | group.active) == warp.live) {
            group = {warp.live, pc + 1, kNone};
            return false;
        }
        group = select(warp);
        return false;
    }
    /// True: the warp stops here.
    bool control(Lanes lanes, const Instruction& i) {
        switch (i.control) {
            case Control::branch:
                go(lanes, i.target);
                return false;
            case Control::call:
                call(lanes, i);
                return false;
            case Control::indexed:
            case Control::back:
                lanes ? go_each(lanes, i) : void(++group.pc);
                return false;
            case Control::leave:
                if (lanes == 0) {
                    ++group.pc;
                    return false;
                }
                leave(warp, lanes);
                put(warp, group.active & ~lanes, group.pc + 1);
                if (!warp.live) return true;
                group = select(warp);
                return false;
            default:
                if (lanes == 0) {
                    ++group.pc;
                    return false;
                }
                return meet(lanes, i);
        }
    }
};

}  // namespace

void run_warp(Warp& warp) {
    const Kernel& kernel = *warp.block->kernel;
    Runner r{warp, kernel.code.data(), warp.block->executed->data(), select(warp)};
    for (std::uint64_t number = 0; number < kMostInstructions; ++number) {
        if (r.group.pc >= r.group.others) {
            r.save(r.group.pc);
            r.group = select(warp);
        }
        const Instruction& i = r.code[r.group.pc];
        warp.pc = r.group.pc;
        ++r.executed[r.group.pc];
        Lanes lanes = r.group.active;
        if (i.guard != kNoRow) {
            const Lanes* guard = row<Lanes>(warp, i.guard);
            if (const Lanes unknown = lanes & ~written(guard)) fault(warp, unknown, "the predicate was never written");
            lanes &= i.guard_negated ? ~*guard : *guard;
        }
        if (i.control == Control::none) [[likely]] {
            if (lanes) i.run(warp, i, lanes);
            ++r.group.pc;
        } else if (r.control(lanes, i)) {
            return;
        }
    }
    fault(warp, r.group.active, "runs for ever: more than 2^31 instructions without a barrier");
}

}  // namespace sim::ptx
