// cvt from, to and between floating-point types: f16, bf16, tf32, f32, f64 and integers of 8 to 64 bits.
#include <cfenv>
#include <limits>

#include "sim/ptx/convert.h"
#include "sim/ptx/float_bits.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

int mode_of(Rounding rounding) {
    switch (rounding) {
        case Rounding::zero:
        case Rounding::zero_integer:
            return FE_TOWARDZERO;
        case Rounding::down:
        case Rounding::down_integer:
            return FE_DOWNWARD;
        case Rounding::up:
        case Rounding::up_integer:
            return FE_UPWARD;
        default:
            return FE_TONEAREST;
    }
}

bool to_integer(Rounding rounding) { return rounding >= Rounding::near_integer && rounding <= Rounding::up_integer; }

double to_integral(double x, Rounding rounding) {
    switch (rounding) {
        case Rounding::zero_integer:
            return std::trunc(x);
        case Rounding::down_integer:
            return std::floor(x);
        case Rounding::up_integer:
            return std::ceil(x);
        default:
            return std::nearbyint(x);
    }
}

/// A value beyond the range becomes the nearest end of the range. NaN becomes 0, or the top bit alone if the source is
/// f64 or the target has 64 bits (`wide`).
template <class To> To clamped(double x, bool wide) {
    if (x != x) return wide ? static_cast<To>(std::uint64_t{1} << (8 * sizeof(To) - 1)) : To{0};
    constexpr double kBelow = static_cast<double>(std::numeric_limits<To>::min());
    const double above = std::ldexp(1.0, std::numeric_limits<To>::digits);
    if (x < kBelow) return std::numeric_limits<To>::min();
    if (x >= above) return std::numeric_limits<To>::max();
    return static_cast<To>(x);
}

std::uint64_t integer_bits(double x, Type to, bool wide) {
    switch (to) {
        case Type::u8:
            return clamped<std::uint8_t>(x, wide);
        case Type::s8:
            return static_cast<std::uint64_t>(std::int64_t{clamped<std::int8_t>(x, wide)});
        case Type::u16:
            return clamped<std::uint16_t>(x, wide);
        case Type::s16:
            return static_cast<std::uint64_t>(std::int64_t{clamped<std::int16_t>(x, wide)});
        case Type::u32:
            return clamped<std::uint32_t>(x, wide);
        case Type::s32:
            return static_cast<std::uint64_t>(std::int64_t{clamped<std::int32_t>(x, wide)});
        case Type::u64:
            return clamped<std::uint64_t>(x, wide);
        default:
            return static_cast<std::uint64_t>(clamped<std::int64_t>(x, wide));
    }
}

/// Rounds to the 10 bits of mantissa of tf32: to nearest with ties away from zero (cvt.rna.tf32), towards zero, or to
/// nearest with ties to even.
std::uint32_t to_tf32(float x, Rounding rounding) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) return x != x ? 0x7fffffffu : bits;
    const std::uint32_t half = rounding == Rounding::away ? 0x1000u : 0xfffu + (bits >> 13 & 1);
    return (rounding == Rounding::zero ? bits : bits + half) & 0xffffe000u;
}

/// Converts a value that f64 holds exactly (all sources but 64-bit integers) to the bits of a floating type, in the
/// rounding mode that is set.
std::uint64_t float_bits(double x, const Conversion& c) {
    if (c.to == Type::f64) return std::bit_cast<std::uint64_t>(c.saturates ? saturated(x) : x);
    if (c.to == Type::f32 || c.to == Type::tf32) {
        volatile float narrow = static_cast<float>(x);
        float y = narrow;
        if (c.flushes) y = flushed(y);
        if (c.saturates) y = saturated(y);
        if (c.to == Type::tf32) return to_tf32(y, c.rounding);
        return std::bit_cast<std::uint32_t>(canonical(y));
    }
    std::fesetround(FE_TONEAREST);
    const bool is_bf16 = c.to == Type::bf16;
    float odd = narrow_to_odd(c.saturates ? saturated(x) : x);
    if (c.relu && !(odd > 0)) odd = odd != odd ? odd : 0.0f;
    if (c.rounding == Rounding::zero) {
        if (is_bf16) return to_bf16_truncated(odd);
        const std::uint16_t near = to_f16(odd);
        return std::fabs(from_f16(near)) > std::fabs(odd) ? near - 1u : near;
    }
    return is_bf16 ? to_bf16(odd) : to_f16(odd);
}

double value_of(std::uint64_t bits, const Conversion& c) {
    switch (c.from) {
        case Type::f16:
            return from_f16(static_cast<std::uint16_t>(bits));
        case Type::bf16:
            return from_bf16(static_cast<std::uint16_t>(bits));
        case Type::f32: {
            const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
            return c.flushes ? flushed(x) : x;
        }
        case Type::f64:
            return std::bit_cast<double>(bits);
        case Type::u8:
            return static_cast<std::uint8_t>(bits);
        case Type::s8:
            return static_cast<std::int8_t>(bits);
        case Type::u16:
            return static_cast<std::uint16_t>(bits);
        case Type::s16:
            return static_cast<std::int16_t>(bits);
        case Type::u32:
            return static_cast<std::uint32_t>(bits);
        default:
            return static_cast<std::int32_t>(bits);
    }
}

std::uint64_t from_wide_integer(std::uint64_t bits, const Conversion& c) {
    if (c.to == Type::f64) {
        volatile double x =
            c.from == Type::u64 ? static_cast<double>(bits) : static_cast<double>(static_cast<std::int64_t>(bits));
        return std::bit_cast<std::uint64_t>(double(x));
    }
    volatile float x =
        c.from == Type::u64 ? static_cast<float>(bits) : static_cast<float>(static_cast<std::int64_t>(bits));
    return std::bit_cast<std::uint32_t>(float(x));
}

Conversion unpacked(std::uint64_t packed) {
    Conversion c;
    c.to = static_cast<Type>(packed & 255), c.from = static_cast<Type>(packed >> 8 & 255),
    c.rounding = static_cast<Rounding>(packed >> 16 & 255);
    c.flushes = packed >> 24 & 1, c.saturates = packed >> 25 & 1, c.relu = packed >> 26 & 1;
    return c;
}

std::uint32_t packed(const Conversion& c) {
    return static_cast<std::uint32_t>(c.to) | static_cast<std::uint32_t>(c.from) << 8 |
           static_cast<std::uint32_t>(c.rounding) << 16 | std::uint32_t{c.flushes} << 24 |
           std::uint32_t{c.saturates} << 25 | std::uint32_t{c.relu} << 26;
}

/// Any conversion, one lane at a time. target: the packed Conversion; count, list: bytes of the target and source
/// registers.
void convert_any(Warp& warp, const Instruction& i, Lanes lanes) {
    const Conversion c = unpacked(i.target);
    const char* a = row<char>(warp, i.a);
    char* d = row<char>(warp, i.d);
    const Lanes known = written(a);
    for (unsigned l = 0; l < kLanes; ++l) {
        if (!(lanes >> l & 1)) continue;
        std::uint64_t bits = 0, result = 0;
        std::memcpy(&bits, a + std::size_t{l} * i.list, i.list);
        std::fesetround(mode_of(c.rounding));
        if (c.from == Type::u64 || c.from == Type::s64) {
            result = from_wide_integer(bits, c);
        } else if (is_float(c.to)) {
            const double x = value_of(bits, c);
            result = float_bits(to_integer(c.rounding) ? to_integral(x, c.rounding) : x, c);
        } else {
            result = integer_bits(to_integral(value_of(bits, c), c.rounding), c.to,
                                  c.from == Type::f64 || bytes_of(c.to) == 8);
        }
        std::fesetround(FE_TONEAREST);
        std::memcpy(d + std::size_t{l} * i.count, &result, i.count);
    }
    mark(d, lanes, known);
}

float widen(std::uint16_t x) { return from_f16(x); }
float widen_bf16(std::uint16_t x) { return canonical(from_bf16(x)); }
float from_signed(std::int32_t x) { return static_cast<float>(x); }
float from_unsigned(std::uint32_t x) { return static_cast<float>(x); }
std::int32_t truncated(float x) {
    return x != x ? 0 : x >= 2147483648.0f ? INT32_MAX : x < -2147483648.0f ? INT32_MIN : static_cast<std::int32_t>(x);
}
double to_double(float x) { return x; }
float to_single(double x) { return canonical(static_cast<float>(x)); }
std::uint32_t pack_bf16(float high, float low) { return std::uint32_t{to_bf16(high)} << 16 | to_bf16(low); }
std::uint32_t pack_f16(float high, float low) { return std::uint32_t{to_f16(high)} << 16 | to_f16(low); }

float clamped_to_one(float x) { return saturated(x); }

/// Fast handlers for the conversions that kernels use most; nullptr for the others.
Handler fast(const Conversion& c) {
    if (c.saturates && !c.flushes && c.to == Type::f32 && c.from == Type::f32 && c.rounding == Rounding::none)
        return &unary<float, &clamped_to_one, float>;
    if (c.flushes || c.saturates || c.relu) return nullptr;
    const auto is = [&](Type to, Type from, Rounding rounding) {
        return c.to == to && c.from == from && c.rounding == rounding;
    };
    if (is(Type::f32, Type::f16, Rounding::none)) return &unary<float, &widen, std::uint16_t>;
    if (is(Type::f32, Type::bf16, Rounding::none)) return &unary<float, &widen_bf16, std::uint16_t>;
    if (is(Type::f32, Type::s32, Rounding::near)) return &unary<float, &from_signed, std::int32_t>;
    if (is(Type::f32, Type::u32, Rounding::near)) return &unary<float, &from_unsigned, std::uint32_t>;
    if (is(Type::s32, Type::f32, Rounding::zero_integer)) return &unary<std::int32_t, &truncated, float>;
    if (is(Type::f64, Type::f32, Rounding::none)) return &unary<double, &to_double, float>;
    if (is(Type::f32, Type::f64, Rounding::near)) return &unary<float, &to_single, double>;
    if (is(Type::bf16, Type::f32, Rounding::near)) return &unary<std::uint16_t, &to_bf16, float>;
    if (is(Type::f16, Type::f32, Rounding::near)) return &unary<std::uint16_t, &to_f16, float>;
    return nullptr;
}

unsigned register_bytes(const Decoder& d, std::size_t operand, Type type) {
    return d.operands[operand].kind == Operand::Kind::reg ? d.width(d.operands[operand], type)
                                                          : std::max(2u, bytes_of(type));
}
Type bits_type(unsigned bytes) { return bytes == 2 ? Type::b16 : bytes == 4 ? Type::b32 : Type::b64; }

}  // namespace

void decode_convert_float(Decoder& d, const Conversion& c) {
    const bool to_float = is_float(c.to), from_float = is_float(c.from);
    if (!to_float && !to_integer(c.rounding)) d.fail("a conversion to an integer needs .rni, .rzi, .rmi or .rpi");
    if (!from_float && (to_integer(c.rounding) || c.rounding == Rounding::none))
        d.fail("a conversion of an integer needs .rn, .rz, .rm or .rp");
    if ((c.from == Type::u64 || c.from == Type::s64) && c.to != Type::f32 && c.to != Type::f64) d.fail_type(c.to);
    if (c.from == Type::b32 || c.to == Type::b32 || (c.to == Type::tf32 && c.from != Type::f32)) d.fail_type(c.to);
    if (c.relu && bytes_of(c.to) != 2) d.fail_type(c.to);
    if (c.rounding == Rounding::away && c.to != Type::tf32) d.fail_type(c.to);
    if (bytes_of(c.to) == 2 && to_float && (c.rounding == Rounding::up || c.rounding == Rounding::down))
        d.fail("this rounding is not known for halves");
    const unsigned to_register = register_bytes(d, 0, c.to), from_register = register_bytes(d, 1, c.from);
    d.out.run = &convert_any;
    if (to_register == bytes_of(c.to) && from_register == bytes_of(c.from))
        if (const Handler run = fast(c)) d.out.run = run;
    d.out.d = d.target(0, bits_type(to_register));
    d.out.a = d.wide_source(d.operands[1], c.from, from_register);
    d.out.count = static_cast<std::uint8_t>(to_register);
    d.out.list = from_register;
    d.out.target = packed(c);
}

void decode_convert_pair(Decoder& d, const Conversion& c) {
    if (c.from != Type::f32 || c.rounding != Rounding::near || c.flushes || c.saturates || c.relu)
        d.fail("this conversion to a pair is not known");
    decode_binary(
        d, c.to, c.from, c.from,
        c.to == Type::bf16x2 ? &binary<std::uint32_t, &pack_bf16, float> : &binary<std::uint32_t, &pack_f16, float>);
}

}  // namespace sim::ptx
