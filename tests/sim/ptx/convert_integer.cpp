// cvt between integers: the value is cut to the source's type, saturated or cut to the target's type, and extended to
// the target register.
#include <limits>

#include "sim/ptx/convert.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

/// The register type of an integer type: registers have 16 bits at least.
template <class T> struct Register { using type = T; };
template <> struct Register<std::uint8_t> { using type = std::uint16_t; };
template <> struct Register<std::int8_t> { using type = std::int16_t; };

template <class To, class From> typename Register<To>::type converted(typename Register<From>::type x) {
    return static_cast<typename Register<To>::type>(static_cast<To>(static_cast<From>(x)));
}

/// The low `bits` bits of x, sign-extended if with_sign.
std::uint64_t cut(std::uint64_t x, unsigned bits, bool with_sign) {
    if (bits == 64) return x;
    x &= (std::uint64_t{1} << bits) - 1;
    return with_sign && x >> (bits - 1) & 1 ? x | ~std::uint64_t{0} << bits : x;
}

std::uint64_t saturate(std::uint64_t x, bool from_signed, unsigned bits, bool to_signed) {
    const bool is_negative = from_signed && static_cast<std::int64_t>(x) < 0;
    const std::uint64_t most = to_signed    ? (std::uint64_t{1} << (bits - 1)) - 1
                               : bits == 64 ? ~std::uint64_t{0}
                                            : (std::uint64_t{1} << bits) - 1;
    if (!is_negative) return x > most ? most : x;
    if (!to_signed) return 0;
    const auto least = -static_cast<std::int64_t>(most) - 1;
    return static_cast<std::int64_t>(x) < least ? static_cast<std::uint64_t>(least) : x;
}

/// All widths, one lane at a time. count: bytes of the target register; target: bytes of the source register | types <<
/// 8; flag: .sat.
void convert_any(Warp& warp, const Instruction& i, Lanes lanes) {
    const unsigned from_register = i.target & 255;
    const auto from = static_cast<Type>(i.target >> 8 & 255), to = static_cast<Type>(i.target >> 16 & 255);
    const char* a = row<char>(warp, i.a);
    char* d = row<char>(warp, i.d);
    const Lanes known = written(a);
    for (unsigned l = 0; l < kLanes; ++l) {
        if (!(lanes >> l & 1)) continue;
        std::uint64_t x = 0;
        std::memcpy(&x, a + std::size_t{l} * from_register, from_register);
        x = cut(x, 8 * bytes_of(from), is_signed(from));
        if (i.flag) x = saturate(x, is_signed(from), 8 * bytes_of(to), is_signed(to));
        x = cut(x, 8 * bytes_of(to), is_signed(to));
        std::memcpy(d + std::size_t{l} * i.count, &x, i.count);
    }
    mark(d, lanes, known);
}

template <class To> Handler from_type(Type from) {
    const auto run = []<class From>() -> Handler {
        return &unary<typename Register<To>::type, &converted<To, From>, typename Register<From>::type>;
    };
    switch (from) {
        case Type::u8:
            return run.template operator()<std::uint8_t>();
        case Type::s8:
            return run.template operator()<std::int8_t>();
        case Type::u16:
            return run.template operator()<std::uint16_t>();
        case Type::s16:
            return run.template operator()<std::int16_t>();
        case Type::u32:
            return run.template operator()<std::uint32_t>();
        case Type::s32:
            return run.template operator()<std::int32_t>();
        case Type::u64:
            return run.template operator()<std::uint64_t>();
        case Type::s64:
            return run.template operator()<std::int64_t>();
        default:
            return nullptr;
    }
}

Handler direct(Type to, Type from) {
    switch (to) {
        case Type::u8:
            return from_type<std::uint8_t>(from);
        case Type::s8:
            return from_type<std::int8_t>(from);
        case Type::u16:
            return from_type<std::uint16_t>(from);
        case Type::s16:
            return from_type<std::int16_t>(from);
        case Type::u32:
            return from_type<std::uint32_t>(from);
        case Type::s32:
            return from_type<std::int32_t>(from);
        case Type::u64:
            return from_type<std::uint64_t>(from);
        case Type::s64:
            return from_type<std::int64_t>(from);
        default:
            return nullptr;
    }
}

/// The lower half of a 64-bit register. The result is known even if only that half was written.
void lower_half(Warp& warp, const Instruction& i, Lanes lanes) {
    const auto* a = row<std::uint64_t>(warp, i.a);
    const Lanes known = written(a) | half_written(a, 0);
    alignas(32) std::uint32_t t[kLanes];
    for (unsigned l = 0; l < kLanes; ++l) t[l] = static_cast<std::uint32_t>(a[l]);
    auto* d = row<std::uint32_t>(warp, i.d);
    merge(d, t, lanes);
    mark(d, lanes, known);
}

unsigned register_bytes(Type type) { return bytes_of(type) == 1 ? 2 : bytes_of(type); }
Type bits_type(unsigned bytes) { return bytes == 2 ? Type::b16 : bytes == 4 ? Type::b32 : Type::b64; }

}  // namespace

void decode_convert_integer(Decoder& d, const Conversion& c) {
    if (c.rounding != Rounding::none || c.flushes || c.relu) d.fail("a conversion between integers has no rounding");
    const unsigned to_register = d.width(d.operands[0], c.to), from_register = d.operands[1].kind == Operand::Kind::reg
                                                                                   ? d.width(d.operands[1], c.from)
                                                                                   : register_bytes(c.from);
    if (to_register < bytes_of(c.to) || to_register < 2) d.fail("the target register is too narrow");
    d.out.run = &convert_any;
    if (!c.saturates && to_register == register_bytes(c.to) && from_register == register_bytes(c.from))
        if (const Handler run = bytes_of(c.to) == 4 && bytes_of(c.from) == 8 ? &lower_half : direct(c.to, c.from))
            d.out.run = run;
    d.out.d = d.target(0, bits_type(to_register));
    d.out.a = d.wide_source(d.operands[1], c.from, from_register);
    d.out.count = static_cast<std::uint8_t>(to_register);
    d.out.target = from_register | static_cast<unsigned>(c.from) << 8 | static_cast<unsigned>(c.to) << 16;
    d.out.flag = c.saturates;
}

}  // namespace sim::ptx
