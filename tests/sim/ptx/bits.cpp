// Logic on bits and predicates; instructions that count bits, find bits and move fields of bits.
#include <bit>

#include "sim/ptx/by_type.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

template <class T> T conjunction(T a, T b) { return static_cast<T>(a & b); }
template <class T> T disjunction(T a, T b) { return static_cast<T>(a | b); }
template <class T> T difference(T a, T b) { return static_cast<T>(a ^ b); }
template <class T> T complement(T a) { return static_cast<T>(~a); }
template <class T> T is_zero(T a) { return a == 0 ? T(1) : T(0); }

template <auto f> void on_predicates(Warp& warp, const Instruction& i, Lanes lanes) {
    const Lanes *a = row<Lanes>(warp, i.a), *b = row<Lanes>(warp, i.b);
    set_predicate(warp, i.d, lanes, f(*a, *b), written(a) & written(b));
}
void not_predicate(Warp& warp, const Instruction& i, Lanes lanes) {
    const Lanes* a = row<Lanes>(warp, i.a);
    set_predicate(warp, i.d, lanes, ~*a, written(a));
}

void decode_logic(Decoder& d) {
    const Type type = d.need_type();
    if (type != Type::pred && type != Type::b16 && type != Type::b32 && type != Type::b64) d.fail_type(type);
    Handler run = nullptr;
    if (d.name == "and")
        run = type == Type::pred
                  ? &on_predicates<&conjunction<Lanes>>
                  : by_width(d, type, []<class T>() -> Handler { return &binary<T, &conjunction<T>, T>; });
    else if (d.name == "or")
        run = type == Type::pred
                  ? &on_predicates<&disjunction<Lanes>>
                  : by_width(d, type, []<class T>() -> Handler { return &binary<T, &disjunction<T>, T>; });
    else
        run = type == Type::pred
                  ? &on_predicates<&difference<Lanes>>
                  : by_width(d, type, []<class T>() -> Handler { return &binary<T, &difference<T>, T>; });
    decode_binary(d, type, type, type, run);
}

void decode_not(Decoder& d) {
    const Type type = d.need_type();
    if (d.name == "not" && type == Type::pred) return decode_unary(d, type, type, &not_predicate);
    decode_unary(d, type, type,
                 d.name == "not" ? by_width(d, type, []<class T>() -> Handler { return &unary<T, &complement<T>, T>; })
                                 : by_width(d, type, []<class T>() -> Handler { return &unary<T, &is_zero<T>, T>; }));
}

/// lop3: each bit of the result is bit (a << 2 | b << 1 | c) of the table.
std::uint32_t any_logic(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t table) {
    std::uint32_t result = 0;
    for (unsigned k = 0; k < 8; ++k)
        if (table >> k & 1) result |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
    return result;
}

void decode_lop3(Decoder& d) {
    const Type type = d.need_type();
    if (type != Type::b32) d.fail_type(type);
    d.expect_operands(5);
    d.immediate(4);
    d.out.run = &quaternary<std::uint32_t, &any_logic, std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;
    d.out.d = d.target(0, type), d.out.a = d.source(1, type), d.out.b = d.source(2, type), d.out.c = d.source(3, type),
    d.out.e = d.source(4, type);
}

template <class T> std::uint32_t count_ones(T a) { return static_cast<std::uint32_t>(std::popcount(a)); }
template <class T> std::uint32_t count_leading(T a) { return static_cast<std::uint32_t>(std::countl_zero(a)); }
template <class T> T reversed(T a) {
    T result = 0;
    for (unsigned k = 0; k < 8 * sizeof(T); ++k) result = static_cast<T>(result << 1 | (a >> k & 1));
    return result;
}

template <class Make> Handler by_32_or_64(const Decoder& d, Type type, Make make) {
    if (bytes_of(type) == 4) return make.template operator()<std::uint32_t>();
    if (bytes_of(type) == 8) return make.template operator()<std::uint64_t>();
    d.fail_type(type);
}

void decode_count(Decoder& d) {
    const Type type = d.need_type();
    decode_unary(
        d, Type::b32, type,
        d.name == "popc"
            ? by_32_or_64(d, type, []<class T>() -> Handler { return &unary<std::uint32_t, &count_ones<T>, T>; })
            : by_32_or_64(d, type, []<class T>() -> Handler { return &unary<std::uint32_t, &count_leading<T>, T>; }));
}

void decode_reverse(Decoder& d) {
    const Type type = d.need_type();
    decode_unary(d, type, type, by_32_or_64(d, type, []<class T>() -> Handler { return &unary<T, &reversed<T>, T>; }));
}

/// bfind: the position of the highest bit that differs from the sign, or its distance from the top bit (as_shift); all
/// ones if there is none.
template <class T, bool as_shift> std::uint32_t highest(T a) {
    std::make_unsigned_t<T> bits = static_cast<std::make_unsigned_t<T>>(a);
    if (std::is_signed_v<T> && a < 0) bits = static_cast<std::make_unsigned_t<T>>(~bits);
    if (bits == 0) return 0xffffffffu;
    const auto zeros = static_cast<std::uint32_t>(std::countl_zero(bits));
    return as_shift ? zeros : static_cast<std::uint32_t>(8 * sizeof(T) - 1 - zeros);
}

void decode_find(Decoder& d) {
    const bool as_shift = d.take("shiftamt");
    const Type type = d.need_type();
    if (bytes_of(type) < 4) d.fail_type(type);
    decode_unary(
        d, Type::b32, type,
        as_shift
            ? by_integer(d, type, []<class T>() -> Handler { return &unary<std::uint32_t, &highest<T, true>, T>; })
            : by_integer(d, type, []<class T>() -> Handler { return &unary<std::uint32_t, &highest<T, false>, T>; }));
}

/// bfe: `length` bits from `position` on, extended by the field's top bit if signed. Bits beyond the operand's end
/// repeat its sign.
template <class T> T extracted(T a, std::uint32_t position, std::uint32_t length) {
    constexpr unsigned kTop = 8 * sizeof(T) - 1;
    position &= 255, length &= 255;
    using U = std::make_unsigned_t<T>;
    const U bits = static_cast<U>(a);
    const bool is_negative = std::is_signed_v<T> && length > 0 &&
                             (bits >> (position + length - 1 < kTop ? position + length - 1 : kTop) & 1);
    U result = position > kTop ? 0 : static_cast<U>(bits >> position);
    if (length <= kTop) result = static_cast<U>(result & ((U{1} << length) - 1));
    const unsigned have = position > kTop ? 0 : kTop + 1 - position, filled = length < have ? length : have;
    if (is_negative && filled <= kTop) result = static_cast<U>(result | static_cast<U>(~U{0} << filled));
    return static_cast<T>(result);
}

void decode_extract(Decoder& d) {
    const Type type = d.need_type();
    if (bytes_of(type) < 4) d.fail_type(type);
    decode_ternary(d, type, type, Type::u32, Type::u32, by_integer(d, type, []<class T>() -> Handler {
                       return &ternary<T, &extracted<T>, T, std::uint32_t, std::uint32_t>;
                   }));
}

/// bfi: inserts `length` bits of a into b at `position`.
template <class T> T inserted(T a, T b, std::uint32_t position, std::uint32_t length) {
    position &= 255, length &= 255;
    constexpr unsigned kBits = 8 * sizeof(T);
    if (position >= kBits) return b;
    const T field = static_cast<T>((length >= kBits ? ~T{0} : (T{1} << length) - 1) << position);
    return static_cast<T>((b & ~field) | ((a << position) & field));
}

void decode_insert(Decoder& d) {
    const Type type = d.need_type();
    d.expect_operands(5);
    d.out.run = by_32_or_64(
        d, type, []<class T>() -> Handler { return &quaternary<T, &inserted<T>, T, T, std::uint32_t, std::uint32_t>; });
    d.out.d = d.target(0, type), d.out.a = d.source(1, type), d.out.b = d.source(2, type),
    d.out.c = d.source(3, Type::u32), d.out.e = d.source(4, Type::u32);
}

/// bmsk: `length` ones from `position` on. Both count to 32 at most (.clamp) or are taken modulo 32 (.wrap).
template <bool wraps> std::uint32_t mask_of(std::uint32_t position, std::uint32_t length) {
    if (wraps) position &= 31, length &= 31;
    if (position > 31) return 0;
    return (length > 31 ? ~0u : (1u << length) - 1) << position;
}

void decode_mask(Decoder& d) {
    const bool wraps = d.take("wrap");
    if (!wraps && !d.take("clamp")) d.fail("bmsk needs .clamp or .wrap");
    const Type type = d.need_type();
    if (type != Type::b32) d.fail_type(type);
    decode_binary(d, type, Type::u32, Type::u32,
                  wraps ? &binary<std::uint32_t, &mask_of<true>, std::uint32_t>
                        : &binary<std::uint32_t, &mask_of<false>, std::uint32_t>);
}

/// prmt without a mode: nibble k of c selects byte k of the result; the nibble's top bit asks for the byte's sign only.
std::uint32_t permuted(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    const std::uint64_t bytes = std::uint64_t{b} << 32 | a;
    std::uint32_t result = 0;
    for (unsigned k = 0; k < 4; ++k) {
        const std::uint32_t selector = c >> 4 * k & 15,
                            byte = static_cast<std::uint32_t>(bytes >> 8 * (selector & 7) & 255);
        result |= (selector & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * k;
    }
    return result;
}

void decode_permute(Decoder& d) {
    const Type type = d.need_type();
    if (type != Type::b32) d.fail_type(type);
    decode_ternary(d, type, type, type, type, &ternary<std::uint32_t, &permuted, std::uint32_t>);
}

}  // namespace

void add_bit_operations(Operations& operations) {
    operations["and"] = operations["or"] = operations["xor"] = &decode_logic;
    operations["not"] = operations["cnot"] = &decode_not;
    operations["lop3"] = &decode_lop3;
    operations["popc"] = operations["clz"] = &decode_count;
    operations["brev"] = &decode_reverse;
    operations["bfind"] = &decode_find;
    operations["bfe"] = &decode_extract;
    operations["bfi"] = &decode_insert;
    operations["bmsk"] = &decode_mask;
    operations["prmt"] = &decode_permute;
}

}  // namespace sim::ptx
