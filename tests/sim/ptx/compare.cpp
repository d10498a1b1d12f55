// Comparisons: setp and set, all relations, ordered and unordered, combined with a predicate. Selections are in
// select.cpp.
#include <array>

#include "sim/ptx/by_type.h"
#include "sim/ptx/float_bits.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

enum class Relation : std::uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };
constexpr std::array<std::string_view, 14> kRelations{"eq",  "ne",  "lt",  "le",  "gt",  "ge",  "equ",
                                                      "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};

template <Relation relation, class T> bool holds(T a, T b) {
    const bool unordered = a != a || b != b;
    switch (relation) {
        case Relation::eq:
            return a == b;
        case Relation::ne:
            return a < b || a > b;
        case Relation::lt:
            return a < b;
        case Relation::le:
            return a <= b;
        case Relation::gt:
            return a > b;
        case Relation::ge:
            return a >= b;
        case Relation::equ:
            return unordered || a == b;
        case Relation::neu:
            return !(a == b);
        case Relation::ltu:
            return unordered || a < b;
        case Relation::leu:
            return unordered || a <= b;
        case Relation::gtu:
            return unordered || a > b;
        case Relation::geu:
            return unordered || a >= b;
        case Relation::num:
            return !unordered;
        case Relation::nan:
            return unordered;
    }
    return false;
}

struct HalfF16 {
    std::uint16_t bits;
    operator float() const { return from_f16(bits); }
};
struct HalfBf16 {
    std::uint16_t bits;
    operator float() const { return from_bf16(bits); }
};

/// The 32 results as a mask. flag: subnormal f32 count as zero.
template <Relation relation, class T> Lanes compare(Warp& warp, const Instruction& i) {
    const T *a = row<T>(warp, i.a), *b = row<T>(warp, i.b);
    Lanes result = 0;
    if constexpr (std::is_class_v<T>) {
        for (unsigned l = 0; l < kLanes; ++l) result |= Lanes{holds<relation>(float(a[l]), float(b[l]))} << l;
    } else if (std::is_same_v<T, float> && i.flag) {
        for (unsigned l = 0; l < kLanes; ++l)
            result |= Lanes{holds<relation>(flushed(static_cast<float>(a[l])), flushed(static_cast<float>(b[l])))} << l;
    } else if constexpr (sizeof(T) == 4) {
#pragma omp simd reduction(| : result)
        for (unsigned l = 0; l < kLanes; ++l) result |= holds<relation>(a[l], b[l]) ? 1u << l : 0u;
    } else {
        for (unsigned l = 0; l < kLanes; ++l) result |= Lanes{holds<relation>(a[l], b[l])} << l;
    }
    return result;
}

/// setp d|e, a, b{, c}. count: how the result is combined with c (1: not at all, 2: and, 3: or, 4: xor); target: c is
/// negated.
template <Relation relation, class T> void set_predicates(Warp& warp, const Instruction& i, Lanes lanes) {
    Lanes result = compare<relation, T>(warp, i), opposite = ~result,
          known = written(row<T>(warp, i.a)) & written(row<T>(warp, i.b));
    if (i.count > 1) {
        const Lanes* c = row<Lanes>(warp, i.c);
        const Lanes with = i.target ? ~*c : *c;
        result = i.count == 2 ? result & with : i.count == 3 ? result | with : result ^ with;
        opposite = i.count == 2 ? opposite & with : i.count == 3 ? opposite | with : opposite ^ with;
        known &= written(c);
    }
    set_predicate(warp, i.d, lanes, result, known);
    set_predicate(warp, i.e, lanes, opposite, known);
}

/// set d, a, b: all ones or 1.0f where the relation holds; `list` has these bits.
template <Relation relation, class T> void set_word(Warp& warp, const Instruction& i, Lanes lanes) {
    Lanes result = compare<relation, T>(warp, i);
    const Lanes known = written(row<T>(warp, i.a)) & written(row<T>(warp, i.b));
    if (i.count > 1) {
        const Lanes* c = row<Lanes>(warp, i.c);
        const Lanes with = i.target ? ~*c : *c;
        result = i.count == 2 ? result & with : i.count == 3 ? result | with : result ^ with;
    }
    auto* d = row<std::uint32_t>(warp, i.d);
    for (unsigned l = 0; l < kLanes; ++l)
        if (lanes >> l & 1) d[l] = result >> l & 1 ? i.list : 0;
    mark(d, lanes, known);
}

template <class T, bool to_word, std::size_t... r> Handler with_relation(Relation relation, std::index_sequence<r...>) {
    static constexpr Handler kHandlers[] = {(to_word ? &set_word<Relation(r), T> : &set_predicates<Relation(r), T>)...};
    return kHandlers[static_cast<std::size_t>(relation)];
}

Handler comparison(const Decoder& d, Type type, Relation relation, bool to_word) {
    constexpr auto kAllRelations = std::make_index_sequence<14>();
    const auto make = [&]<class T>() -> Handler {
        return to_word ? with_relation<T, true>(relation, kAllRelations)
                       : with_relation<T, false>(relation, kAllRelations);
    };
    switch (type) {
        case Type::f32:
            return make.operator()<float>();
        case Type::f64:
            return make.operator()<double>();
        case Type::f16:
            return make.operator()<HalfF16>();
        case Type::bf16:
            return make.operator()<HalfBf16>();
        default:
            return by_integer(d, type, make);
    }
}

Relation relation_of(Decoder& d) {
    for (std::size_t k = 0; k < kRelations.size(); ++k)
        if (d.take(kRelations[k])) return static_cast<Relation>(k);
    const std::string_view unsigned_name = d.take_any({"lo", "ls", "hi", "hs"});
    if (unsigned_name.empty()) d.fail("a relation is missing");
    return unsigned_name == "lo"   ? Relation::lt
           : unsigned_name == "ls" ? Relation::le
           : unsigned_name == "hi" ? Relation::gt
                                   : Relation::ge;
}

/// Decodes .and, .or, .xor with the predicate operand number `operand`.
void decode_combination(Decoder& d, std::size_t operand) {
    const std::string_view how = d.take_any({"and", "or", "xor"});
    d.expect_operands(how.empty() ? operand : operand + 1);
    if (how.empty()) return;
    d.out.count = how == "and" ? 2 : how == "or" ? 3 : 4;
    Operand c = d.operands[operand];
    d.out.target = c.negated;
    c.negated = false;
    d.out.c = d.source(c, Type::pred);
}

void decode_setp(Decoder& d) {
    const Relation relation = relation_of(d);
    decode_combination(d, 3);
    const bool flushes = d.take("ftz");
    const Type type = d.need_type();
    if (flushes && type != Type::f32) d.fail_type(type);
    d.out.run = comparison(d, type, relation, false);
    d.out.flag = flushes;
    const Operand& to = d.operands[0];
    if (to.kind == Operand::Kind::pair) {
        d.out.d = d.target(to.elements[0], Type::pred);
        d.out.e = d.target(to.elements[1], Type::pred);
    } else {
        d.out.d = d.target(0, Type::pred);
    }
    d.out.a = d.source(1, type);
    d.out.b = d.source(2, type);
}

void decode_set(Decoder& d) {
    const Relation relation = relation_of(d);
    decode_combination(d, 3);
    const bool flushes = d.take("ftz");
    const Type to = d.need_type(), type = d.need_type();
    if (bytes_of(to) != 4 || (flushes && type != Type::f32)) d.fail_type(to);
    d.out.run = comparison(d, type, relation, true);
    d.out.flag = flushes;
    d.out.list = to == Type::f32 ? 0x3f800000u : 0xffffffffu;
    d.out.d = d.target(0, to);
    d.out.a = d.source(1, type);
    d.out.b = d.source(2, type);
}

}  // namespace

void add_compare_operations(Operations& operations) {
    operations["setp"] = &decode_setp;
    operations["set"] = &decode_set;
}

}  // namespace sim::ptx
