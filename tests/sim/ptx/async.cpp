// Asynchronous copies: cp.async and its groups. A copy lands when its lane waits for its group and not before. Until
// then its bytes are poison, and touching them is a Fault. Other lanes see them after a barrier that follows the wait.
#include "sim/ptx/async.h"

#include <bit>
#include <cstring>

#include "sim/ptx/addresses.h"
#include "sim/ptx/lanes.h"
#include "sim/ptx/shared_memory.h"

namespace sim::ptx {

void AsyncCopies::commit() {
    groups.push_back(static_cast<std::uint32_t>(num_open()));
    committed += groups.back();
}

void AsyncCopies::forget() {
    copies.clear(), groups.clear();
    first = committed = first_group = 0;
}

namespace {

/// cp.async. a, offset, flag: address in shared memory; c, list: row and offset (32 bits, signed) of the source; count:
/// bytes; e: src-size or kNoRow; d: predicate ignore-src or kNoRow.
void copy_async(Warp& warp, const Instruction& i, Lanes lanes) {
    Access to, from;
    to.lanes = lanes, to.bytes = i.count;
    find_addresses(warp, i, to);
    Instruction source;
    source.a = i.c, source.offset = static_cast<std::int32_t>(i.list), source.flag = false;
    from.bytes = i.count, from.lanes = lanes;
    const std::uint32_t* size = i.e == kNoRow ? nullptr : row<std::uint32_t>(warp, i.e);
    if (size && (lanes & ~written(size)))
        fault(warp, lanes & ~written(size), "the number of bytes to copy was never written");
    if (i.d != kNoRow) from.lanes &= ~predicate(warp, i.d);
    for (Lanes left = size ? from.lanes : 0; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        if (size[l] > i.count)
            fault(warp, 1u << l, "copies " + std::to_string(size[l]) + " bytes of " + std::to_string(i.count));
        if (size[l] == 0) from.lanes &= ~(1u << l);
    }
    if (from.lanes) {
        find_addresses(warp, source, from);
        if (size) check_partial_source(warp, source, from, size);
        else check_global(warp, source, from, Use::read);
    }
    check_flight(warp, to);
    if (warp.copies.empty()) warp.copies.resize(kLanes);
    for (Lanes left = lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        AsyncCopy copy;
        copy.to = static_cast<std::uint32_t>(to.at[l]);
        copy.bytes = i.count;
        if (from.lanes >> l & 1)
            std::memcpy(copy.data.data(), reinterpret_cast<const void*>(from.at[l]), size ? size[l] : i.count);
        std::memset(warp.block->shared->data() + copy.to, 0xff, copy.bytes);
        warp.copies[l].copies.push_back(copy);
    }
}

void commit(Warp& warp, const Instruction&, Lanes lanes) {
    if (warp.copies.empty()) warp.copies.resize(kLanes);
    for (Lanes left = lanes; left; left &= left - 1)
        warp.copies[static_cast<std::size_t>(std::countr_zero(left))].commit();
}

/// Lands the oldest group of a lane.
void land(Warp& warp, AsyncCopies& copies) {
    const std::size_t number = copies.groups[copies.first_group];
    for (std::size_t k = copies.first; k < copies.first + number; ++k) {
        const AsyncCopy& copy = copies.copies[k];
        std::memcpy(warp.block->shared->data() + copy.to, copy.data.data(), copy.bytes);
        end_flight(warp, copy.to / 4, copy.bytes / 4u);
    }
    copies.first += number, copies.committed -= number;
    ++copies.first_group;
    if (copies.num_groups() == 0 && copies.idle()) copies.forget();
}

/// target: groups that may stay in flight. flag: wait_all, which first commits.
void wait(Warp& warp, const Instruction& i, Lanes lanes) {
    if (warp.copies.empty()) return;
    if (i.flag) commit(warp, i, lanes);
    for (Lanes left = lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        AsyncCopies& copies = warp.copies[l];
        if (copies.num_open() > 0 && i.target == 0)
            fault(warp, 1u << l,
                  "waits for all groups while copies of this thread are not committed (cp.async.commit_group is "
                  "missing)");
        while (copies.num_groups() > i.target) land(warp, copies);
    }
}

/// Decodes the second address of cp.async.
void decode_source(Decoder& d) {
    const Instruction kept = d.out;
    d.address(1);
    if (d.out.flag) d.fail("the source needs an address of 64 bits");
    const Instruction source = d.out;
    d.out = kept;
    d.out.c = source.a;
    d.out.list = static_cast<std::uint32_t>(source.offset);
    if (static_cast<std::int32_t>(d.out.list) != source.offset) d.fail("the offset does not fit into 32 bits");
}

void decode_copy(Decoder& d) {
    const bool through_l1 = d.take("ca");
    if (!through_l1 && !d.take("cg")) d.fail("cp.async needs .ca or .cg");
    if (!d.take("shared") && !d.take("shared::cta")) d.fail("cp.async goes to shared memory");
    if (!d.take("global")) d.fail("cp.async comes from global memory");
    d.take_any({"L2::64B", "L2::128B", "L2::256B"});
    d.expect_operands(3, 4);
    const std::int64_t bytes = d.immediate(2);
    if (through_l1 ? bytes != 4 && bytes != 8 && bytes != 16 : bytes != 16)
        d.fail("cp.async copies 4, 8 or 16 bytes (.cg: 16)");
    d.address(0);
    decode_source(d);
    d.out.run = &copy_async;
    d.out.count = static_cast<std::uint8_t>(bytes);
    if (d.operands.size() == 4) {
        const Operand& last = d.operands[3];
        if (last.kind == Operand::Kind::reg && last.symbol.type == Type::pred) d.out.d = d.source(last, Type::pred);
        else d.out.e = d.source(last, Type::u32);
    }
}

void decode_async(Decoder& d) {
    if (!d.take("async")) d.fail("only cp.async is known");
    if (d.take("commit_group")) {
        d.expect_operands(0);
        d.out.run = &commit;
    } else if (d.take("wait_all")) {
        d.expect_operands(0);
        d.out.run = &wait;
        d.out.flag = true;
    } else if (d.take("wait_group")) {
        d.expect_operands(1);
        d.out.run = &wait;
        d.out.target = static_cast<std::uint32_t>(d.immediate(0));
    } else {
        decode_copy(d);
    }
}

}  // namespace

void check_no_copies(Warp& warp, Lanes lanes) {
    if (warp.copies.empty()) return;
    for (; lanes; lanes &= lanes - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(lanes));
        const bool pending = !warp.copies[l].idle();
        if (pending) fault(warp, 1u << l, "leaves while cp.async is in flight: the thread has not waited for it");
    }
}

void add_async_operations(Operations& operations) { operations["cp"] = &decode_async; }

}  // namespace sim::ptx
