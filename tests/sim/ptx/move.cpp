// Moves: mov between registers, packing and unpacking of vectors, addresses of variables; cvta to and from generic
// addresses; isspacep.
#include "sim/ptx/addresses.h"
#include "sim/ptx/by_type.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

template <class T> T same(T a) { return a; }

/// mov.pred with or without !.
void copy_predicate(Warp& warp, const Instruction& i, Lanes lanes) {
    const Lanes* a = row<Lanes>(warp, i.a);
    set_predicate(warp, i.d, lanes, i.flag ? ~*a : *a, written(a));
}

/// mov.b32 d, {a, b}: packs elements of type From into one To. The first element takes the lowest bits.
template <class To, class From> void pack(Warp& warp, const Instruction& i, Lanes lanes) {
    const Row* elements = &warp.block->kernel->lists[i.list];
    alignas(32) To t[kLanes] = {};
    Lanes known = kAll, halves[2] = {};
    for (unsigned e = 0; e < sizeof(To) / sizeof(From); ++e) {
        const From* a = row<From>(warp, elements[e]);
        known &= written(a);
        if constexpr (sizeof(From) == 4) halves[e] = written(a);
        for (unsigned l = 0; l < kLanes; ++l) t[l] |= static_cast<To>(To(a[l]) << 8 * sizeof(From) * e);
    }
    To* d = row<To>(warp, i.d);
    merge(d, t, lanes);
    mark(d, lanes, known);
    for (unsigned e = 0; e < 2; ++e) half_written(d, e) = (half_written(d, e) & ~lanes) | (halves[e] & lanes);
}

template <class To, class From> void unpack(Warp& warp, const Instruction& i, Lanes lanes) {
    const Row* elements = &warp.block->kernel->lists[i.list];
    alignas(32) From whole[kLanes];
    const From* a = row<From>(warp, i.a);
    const Lanes known = written(a), halves[2] = {half_written(a, 0), half_written(a, 1)};
    for (unsigned l = 0; l < kLanes; ++l) whole[l] = a[l];
    for (unsigned e = 0; e < sizeof(From) / sizeof(To); ++e) {
        alignas(32) To t[kLanes];
        for (unsigned l = 0; l < kLanes; ++l) t[l] = static_cast<To>(whole[l] >> 8 * sizeof(To) * e);
        To* d = row<To>(warp, elements[e]);
        merge(d, t, lanes);
        mark(d, lanes, sizeof(To) == 4 ? known | halves[e % 2] : known);
    }
}

Handler packer(const Decoder& d, unsigned whole, unsigned part, bool packs) {
    if (whole == 4 && part == 2)
        return packs ? &pack<std::uint32_t, std::uint16_t> : &unpack<std::uint16_t, std::uint32_t>;
    if (whole == 8 && part == 4)
        return packs ? &pack<std::uint64_t, std::uint32_t> : &unpack<std::uint32_t, std::uint64_t>;
    if (whole == 8 && part == 2)
        return packs ? &pack<std::uint64_t, std::uint16_t> : &unpack<std::uint16_t, std::uint64_t>;
    d.fail("vectors of this shape are not known in mov");
}

void decode_mov(Decoder& d) {
    const Type type = d.need_type();
    d.expect_operands(2);
    const bool packs = d.operands[1].kind == Operand::Kind::vector,
               unpacks = d.operands[0].kind == Operand::Kind::vector;
    if (packs || unpacks) {
        const Operand& vector = d.operands[packs ? 1 : 0];
        const unsigned part = bytes_of(type) / static_cast<unsigned>(vector.elements.size());
        if (part * vector.elements.size() != bytes_of(type)) d.fail("the vector has too few or too many elements");
        const Type element = part == 2 ? Type::b16 : part == 4 ? Type::b32 : Type::none;
        d.out.run = packer(d, bytes_of(type), part, packs);
        d.out.list = d.list(d.rows(vector, element, unpacks));
        (packs ? d.out.d : d.out.a) = packs ? d.target(0, type) : d.source(1, type);
        return;
    }
    if (type == Type::pred) {
        Operand from = d.operands[1];
        d.out.flag = from.negated;
        from.negated = false;
        d.out.run = &copy_predicate;
        d.out.d = d.target(0, type), d.out.a = d.source(from, type);
        return;
    }
    decode_unary(d, type, type, by_width(d, type, []<class T>() -> Handler { return &unary<T, &same<T>, T>; }));
}

template <Space space, bool to_generic> std::uint64_t window(std::uint64_t a) {
    constexpr std::uint64_t base = space == Space::shared  ? kSharedWindow
                                   : space == Space::local ? kLocalWindow
                                                           : kParameterWindow;
    return to_generic ? a + base : a - base;
}

template <Space space> Handler windowed(bool from_generic) {
    return from_generic ? &unary<std::uint64_t, &window<space, false>, std::uint64_t>
                        : &unary<std::uint64_t, &window<space, true>, std::uint64_t>;
}

void decode_cvta(Decoder& d) {
    const bool from_generic = d.take("to");
    const Space space = take_space(d);
    const Type type = d.need_type();
    if (bytes_of(type) != 8) d.fail_type(type);
    if (space == Space::generic) d.fail("a state space is missing");
    // Global and constant memory lie at their generic addresses.
    Handler run = &unary<std::uint64_t, &same<std::uint64_t>, std::uint64_t>;
    if (space == Space::shared) run = windowed<Space::shared>(from_generic);
    if (space == Space::local) run = windowed<Space::local>(from_generic);
    if (space == Space::parameter) run = windowed<Space::parameter>(from_generic);
    decode_unary(d, type, type, run);
}

/// isspacep. target: the state space.
void is_in_space(Warp& warp, const Instruction& i, Lanes lanes) {
    const std::uint64_t* a = row<std::uint64_t>(warp, i.a);
    Lanes result = 0;
    for (unsigned l = 0; l < kLanes; ++l) result |= Lanes{space_of(a[l]) == static_cast<Space>(i.target)} << l;
    set_predicate(warp, i.d, lanes, result, written(a));
}

void decode_isspacep(Decoder& d) {
    d.out.target = static_cast<std::uint32_t>(take_space(d));
    decode_unary(d, Type::pred, Type::b64, &is_in_space);
}

}  // namespace

Space take_space(Decoder& d) {
    if (d.take("global")) return Space::global;
    if (d.take("shared") || d.take("shared::cta")) return Space::shared;
    if (d.take("local")) return Space::local;
    if (d.take("const")) return Space::constant;
    if (d.take("param") || d.take("param::entry") || d.take("param::func")) return Space::parameter;
    return Space::generic;
}

void add_move_operations(Operations& operations) {
    operations["mov"] = &decode_mov;
    operations["cvta"] = &decode_cvta;
    operations["isspacep"] = &decode_isspacep;
}

}  // namespace sim::ptx
