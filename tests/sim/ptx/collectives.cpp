// Instructions that the lanes of a warp run together: shfl, vote, match, redux, activemask. schedule.cpp checks that
// all lanes of the member mask have arrived.
#include <bit>

#include "sim/ptx/by_type.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

enum class Shuffle : std::uint8_t { up, down, bfly, idx };

/// The lane from which lane l reads. `inside`: it lies inside of l's segment; otherwise l reads itself.
unsigned source_lane(Shuffle mode, unsigned l, std::uint32_t b, std::uint32_t c, bool& inside) {
    const unsigned clamp = c & 31, segment = c >> 8 & 31, first = l & segment, last = first | (clamp & ~segment);
    b &= 31;
    int from = 0;
    switch (mode) {
        case Shuffle::up:
            from = static_cast<int>(l) - static_cast<int>(b), inside = from >= static_cast<int>(last);
            break;
        case Shuffle::down:
            from = static_cast<int>(l + b), inside = from <= static_cast<int>(last);
            break;
        case Shuffle::bfly:
            from = static_cast<int>(l ^ b), inside = from <= static_cast<int>(last);
            break;
        case Shuffle::idx:
            from = static_cast<int>(first | (b & ~segment)), inside = from <= static_cast<int>(last);
            break;
    }
    return inside ? static_cast<unsigned>(from) : l;
}

/// shfl.sync d|p, a, b, c, mask. target: p; e: mask; count: mode.
void shuffle(Warp& warp, const Instruction& i, Lanes lanes) {
    const std::uint32_t *a = row<std::uint32_t>(warp, i.a), *b = row<std::uint32_t>(warp, i.b),
                        *c = row<std::uint32_t>(warp, i.c);
    const Lanes known = written(a), controls = written(b) & written(c);
    if (lanes & ~controls) fault(warp, lanes & ~controls, "shuffles by a register that was never written");
    const std::uint32_t* mask = row<std::uint32_t>(warp, i.e);
    alignas(32) std::uint32_t t[kLanes] = {};
    Lanes inside = 0, result_known = 0;
    for (unsigned l = 0; l < kLanes; ++l) {
        if (!(lanes >> l & 1)) continue;
        bool in_segment = false;
        const unsigned from = source_lane(static_cast<Shuffle>(i.count), l, b[l], c[l], in_segment);
        if (!(mask[l] >> from & 1))
            fault(warp, 1u << l,
                  "shuffles from lane " + std::to_string(from) +
                      ", which does not take part: it is not in the member mask " + lanes_text(mask[l]));
        t[l] = a[from];
        inside |= Lanes{in_segment} << l;
        result_known |= (known >> from & 1) << l;
    }
    auto* d = row<std::uint32_t>(warp, i.d);
    merge(d, t, lanes);
    mark(d, lanes, result_known);
    if (i.target) set_predicate(warp, i.target, lanes, inside, kAll);
}

void decode_shuffle(Decoder& d) {
    if (!d.take("sync")) d.fail("shfl without .sync is not known");
    const std::string_view mode = d.take_any({"up", "down", "bfly", "idx"});
    const Type type = d.need_type();
    if (mode.empty() || type != Type::b32) d.fail("a mode or .b32 is missing");
    d.expect_operands(5);
    d.out.count = static_cast<std::uint8_t>(mode == "up"     ? Shuffle::up
                                            : mode == "down" ? Shuffle::down
                                            : mode == "bfly" ? Shuffle::bfly
                                                             : Shuffle::idx);
    d.out.control = Control::masked;
    d.out.run = &shuffle;
    const Operand& to = d.operands[0];
    d.out.d = d.target(to.kind == Operand::Kind::pair ? to.elements[0] : to, type);
    d.out.target = to.kind == Operand::Kind::pair ? d.target(to.elements[1], Type::pred) : 0;
    d.out.a = d.source(1, type), d.out.b = d.source(2, type), d.out.c = d.source(3, type), d.out.e = d.source(4, type);
}

enum class Vote : std::uint8_t { all, any, uni, ballot };

/// vote.sync. flag: the predicate is negated; count: which vote. Lanes of one member mask vote together.
void vote(Warp& warp, const Instruction& i, Lanes lanes) {
    const Lanes* p = row<Lanes>(warp, i.a);
    if (lanes & ~written(p)) fault(warp, lanes & ~written(p), "votes with a predicate that was never written");
    const Lanes yes = i.flag ? ~*p : *p;
    const std::uint32_t* mask = row<std::uint32_t>(warp, i.e);
    std::uint32_t* d = static_cast<Vote>(i.count) == Vote::ballot ? row<std::uint32_t>(warp, i.d) : nullptr;
    Lanes result = 0;
    for (Lanes left = lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        const Lanes members = mask[l], those = yes & members;
        switch (static_cast<Vote>(i.count)) {
            case Vote::all:
                result |= Lanes{those == members} << l;
                break;
            case Vote::any:
                result |= Lanes{those != 0} << l;
                break;
            case Vote::uni:
                result |= Lanes{those == members || those == 0} << l;
                break;
            case Vote::ballot:
                d[l] = those;
                break;
        }
    }
    if (d) mark(d, lanes, kAll);
    else set_predicate(warp, i.d, lanes, result, kAll);
}

void decode_vote(Decoder& d) {
    if (!d.take("sync")) d.fail("vote without .sync is not known");
    const std::string_view what = d.take_any({"all", "any", "uni", "ballot"});
    const Type type = d.need_type();
    if (what.empty() || type != (what == "ballot" ? Type::b32 : Type::pred)) d.fail_type(type);
    d.expect_operands(3);
    d.out.count = static_cast<std::uint8_t>(what == "all"   ? Vote::all
                                            : what == "any" ? Vote::any
                                            : what == "uni" ? Vote::uni
                                                            : Vote::ballot);
    d.out.control = Control::masked;
    d.out.run = &vote;
    d.out.d = d.target(0, type);
    Operand p = d.operands[1];
    d.out.flag = p.negated;
    p.negated = false;
    if (p.kind == Operand::Kind::immediate) p.value = p.value != 0;
    d.out.a = d.source(p, Type::pred);
    d.out.e = d.source(2, Type::b32);
}

/// match.any: the members that have the lane's value. match.all: all members if all have it (then p is true), else 0.
template <class T, bool all> void match(Warp& warp, const Instruction& i, Lanes lanes) {
    const T* a = row<T>(warp, i.a);
    if (lanes & ~written(a)) fault(warp, lanes & ~written(a), "matches a register that was never written");
    const std::uint32_t* mask = row<std::uint32_t>(warp, i.e);
    alignas(32) std::uint32_t t[kLanes] = {};
    Lanes agree = 0;
    for (Lanes left = lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        Lanes same = 0;
        for (unsigned m = 0; m < kLanes; ++m) same |= Lanes{(mask[l] >> m & 1) && a[m] == a[l]} << m;
        t[l] = all ? (same == mask[l] ? same : 0) : same;
        agree |= Lanes{same == mask[l]} << l;
    }
    auto* d = row<std::uint32_t>(warp, i.d);
    merge(d, t, lanes);
    mark(d, lanes, kAll);
    if (all && i.target) set_predicate(warp, i.target, lanes, agree, kAll);
}

void decode_match(Decoder& d) {
    const std::string_view how = d.take_any({"any", "all"});
    if (how.empty() || !d.take("sync")) d.fail("match needs .any or .all and .sync");
    const Type type = d.need_type();
    if (type != Type::b32 && type != Type::b64) d.fail_type(type);
    d.expect_operands(3);
    const bool all = how == "all";
    d.out.control = Control::masked;
    d.out.run = type == Type::b32 ? (all ? &match<std::uint32_t, true> : &match<std::uint32_t, false>)
                                  : (all ? &match<std::uint64_t, true> : &match<std::uint64_t, false>);
    const Operand& to = d.operands[0];
    d.out.d = d.target(to.kind == Operand::Kind::pair ? to.elements[0] : to, Type::b32);
    d.out.target = to.kind == Operand::Kind::pair ? d.target(to.elements[1], Type::pred) : 0;
    d.out.a = d.source(1, type), d.out.e = d.source(2, Type::b32);
}

template <class T> T sum(T a, T b) { return static_cast<T>(std::uint32_t(a) + std::uint32_t(b)); }
template <class T> T least(T a, T b) { return a < b ? a : b; }
template <class T> T most(T a, T b) { return a > b ? a : b; }
template <class T> T both(T a, T b) { return a & b; }
template <class T> T either(T a, T b) { return a | b; }
template <class T> T one_of(T a, T b) { return a ^ b; }

/// redux.sync: one value, computed from all members.
template <class T, auto f> void reduce(Warp& warp, const Instruction& i, Lanes lanes) {
    const T* a = row<T>(warp, i.a);
    if (lanes & ~written(a)) fault(warp, lanes & ~written(a), "reduces a register that was never written");
    const std::uint32_t* mask = row<std::uint32_t>(warp, i.e);
    alignas(32) T t[kLanes] = {};
    for (Lanes left = lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        T result = a[std::countr_zero(mask[l])];
        for (Lanes others = mask[l] & (mask[l] - 1); others; others &= others - 1)
            result = f(result, a[std::countr_zero(others)]);
        t[l] = result;
    }
    T* d = row<T>(warp, i.d);
    merge(d, t, lanes);
    mark(d, lanes, kAll);
}

void decode_reduce(Decoder& d) {
    if (!d.take("sync")) d.fail("redux needs .sync");
    const std::string_view how = d.take_any({"add", "min", "max", "and", "or", "xor"});
    const Type type = d.need_type();
    const bool logic = how == "and" || how == "or" || how == "xor";
    if (how.empty() || (logic ? type != Type::b32 : type != Type::u32 && type != Type::s32)) d.fail_type(type);
    using U = std::uint32_t;
    using S = std::int32_t;
    if (how == "add") d.out.run = &reduce<U, &sum<U>>;
    if (how == "min") d.out.run = type == Type::s32 ? &reduce<S, &least<S>> : &reduce<U, &least<U>>;
    if (how == "max") d.out.run = type == Type::s32 ? &reduce<S, &most<S>> : &reduce<U, &most<U>>;
    if (logic)
        d.out.run = how == "and" ? &reduce<U, &both<U>> : how == "or" ? &reduce<U, &either<U>> : &reduce<U, &one_of<U>>;
    d.expect_operands(3);
    d.out.control = Control::masked;
    d.out.d = d.target(0, type), d.out.a = d.source(1, type), d.out.e = d.source(2, Type::b32);
}

void active_mask(Warp& warp, const Instruction& i, Lanes lanes) {
    auto* d = row<std::uint32_t>(warp, i.d);
    for (unsigned l = 0; l < kLanes; ++l)
        if (lanes >> l & 1) d[l] = lanes;
    mark(d, lanes, kAll);
}

void decode_active_mask(Decoder& d) {
    const Type type = d.need_type();
    d.expect_operands(1);
    d.out.run = &active_mask;
    d.out.d = d.target(0, type);
}

}  // namespace

void add_collective_operations(Operations& operations) {
    operations["shfl"] = &decode_shuffle;
    operations["vote"] = &decode_vote;
    operations["match"] = &decode_match;
    operations["redux"] = &decode_reduce;
    operations["activemask"] = &decode_active_mask;
}

}  // namespace sim::ptx
