// Tests of the interpreter's conversions and its arithmetic of halves (f16 and bf16). The tests find the nearest half
// by a search among all halves, not by operations on bits.
#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

struct HalfFormat {
    const char* name;
    int exponent_bits, mantissa_bits;
    double value(unsigned bits) const {
        const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1),
                  bias = (1 << (exponent_bits - 1)) - 1;
        const int mantissa = static_cast<int>(bits & ((1u << mantissa_bits) - 1));
        const double sign = bits >> 15 ? -1 : 1;
        if (exponent == (1 << exponent_bits) - 1)
            return mantissa ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
        if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
        return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
    }
    /// The bits of the half that is nearest to x; ties go to the even one, NaN gives 0x7fff.
    unsigned nearest(long double x) const {
        if (x != x) return 0x7fff;
        const unsigned sign = std::signbit(x) ? 0x8000u : 0u, infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
        const long double size = std::fabs(x),
                          limit = std::ldexp(2.0 - std::ldexp(1.0, -mantissa_bits - 1), (1 << (exponent_bits - 1)) - 1);
        if (size >= limit) return sign | infinity;
        unsigned low = 0, high = infinity;  // low becomes the greatest half that is not above `size`
        while (high - low > 1) (value((low + high) / 2) <= size ? low : high) = (low + high) / 2;
        if (low == infinity - 1) return sign | low;
        const long double below = size - value(low), above = value(low + 1) - size;
        return sign | (below < above || (below == above && low % 2 == 0) ? low : low + 1);
    }
};
constexpr HalfFormat kF16{"f16", 5, 10}, kBf16{"bf16", 8, 7};

/// Clamps an integral double to an integer of `bits` bits. NaN gives 0, or the highest bit alone if `wide`.
std::uint64_t clamp_integer(double x, unsigned bits, bool is_signed, bool wide) {
    const std::uint64_t top = std::uint64_t{1} << (bits - 1);
    if (x != x) return wide ? top : 0;
    if (is_signed)
        return x <= -std::ldexp(1.0, static_cast<int>(bits) - 1) ? (~std::uint64_t{0} << (bits - 1))
               : x >= std::ldexp(1.0, static_cast<int>(bits) - 1)
                   ? top - 1
                   : static_cast<std::uint64_t>(static_cast<std::int64_t>(x));
    return x <= 0                                         ? 0
           : x >= std::ldexp(1.0, static_cast<int>(bits)) ? (top - 1) * 2 + 1
                                                          : static_cast<std::uint64_t>(x);
}

double round_half_even(double x) {
    const double down = std::floor(x), rest = x - down;
    return rest < 0.5 ? down : rest > 0.5 ? down + 1 : std::fmod(down, 2) == 0 ? down : down + 1;
}

std::uint64_t cut(std::uint64_t x, unsigned bits, bool is_signed) {
    if (bits == 64) return x;
    x &= (std::uint64_t{1} << bits) - 1;
    return is_signed && x >> (bits - 1) ? x | ~std::uint64_t{0} << bits : x;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_convert)

BOOST_AUTO_TEST_CASE(integers) {
    for (const unsigned from : {8u, 16u, 32u, 64u})
        for (const unsigned to : {8u, 16u, 32u, 64u})
            for (const bool from_signed : {false, true})
                for (const bool to_signed : {false, true}) {
                    const unsigned from_register = std::max(from, 16u), to_register = std::max(to, 16u);
                    const std::string op = std::string("cvt.") + (to_signed ? "s" : "u") + std::to_string(to) +
                                           (from_signed ? ".s" : ".u") + std::to_string(from) + " %d, %s0";
                    check_instruction(
                        op, to_register, {from_register}, operands_of({from_register}),
                        [&](auto a, auto, auto, auto) { return cut(cut(a, from, from_signed), to, to_signed); });
                }
    // Registers may be wider than the types.
    check_instruction("cvt.u8.u32 %d, %s0", 32, {32}, operands_of({32}),
                      [](auto a, auto, auto, auto) { return a & 255; });
    check_instruction("cvt.s32.s8 %d, %s0", 64, {32}, operands_of({32}),
                      [](auto a, auto, auto, auto) { return cut(a, 8, true); });
    check_instruction("cvt.sat.u8.s32 %d, %s0", 32, {32}, operands_of({32}),
                      [](auto a, auto, auto, auto) { return a >= 0x80000000u ? 0 : std::min<std::uint64_t>(a, 255); });
    check_instruction("cvt.sat.s16.s32 %d, %s0", 16, {32}, operands_of({32}), [](auto a, auto, auto, auto) {
        return std::clamp<std::int64_t>(static_cast<std::int64_t>(cut(a, 32, true)), -32768, 32767);
    });
    check_instruction("cvt.sat.s32.u64 %d, %s0", 32, {64}, operands_of({64}),
                      [](auto a, auto, auto, auto) { return std::min<std::uint64_t>(a, 0x7fffffff); });
}

BOOST_AUTO_TEST_CASE(floats_to_integers) {
    struct Mode {
        const char* name;
        double (*round)(double);
    };
    for (const Mode mode : {Mode{"rni", &round_half_even},
                            {"rzi", [](double x) { return std::trunc(x); }},
                            {"rmi", [](double x) { return std::floor(x); }},
                            {"rpi", [](double x) { return std::ceil(x); }}})
        for (const unsigned bits : {16u, 32u, 64u})
            for (const bool is_signed : {false, true}) {
                const std::string to =
                    std::string("cvt.") + mode.name + (is_signed ? ".s" : ".u") + std::to_string(bits);
                const auto expected = [&](double x, bool wide) {
                    return clamp_integer(x != x || std::isinf(x) ? x : mode.round(x), bits, is_signed, wide);
                };
                check_instruction(to + ".f32 %d, %s0", bits, {32}, floats_of(1),
                                  [&](auto a, auto, auto, auto) { return expected(as_float(a), bits == 64); });
                check_instruction(to + ".f64 %d, %s0", bits, {64}, doubles_of(1),
                                  [&](auto a, auto, auto, auto) { return expected(as_double(a), true); });
                check_instruction(to + ".f16 %d, %s0", bits, {16}, halves_of(1), [&](auto a, auto, auto, auto) {
                    return expected(kF16.value(static_cast<unsigned>(a)), bits == 64);
                });
            }
}

BOOST_AUTO_TEST_CASE(integers_to_floats) {
    check_instruction("cvt.rn.f32.s32 %d, %s0", 32, {32}, operands_of({32}), [](auto a, auto, auto, auto) {
        return bits_of(static_cast<float>(static_cast<long double>(static_cast<std::int32_t>(a))));
    });
    check_instruction("cvt.rn.f32.u32 %d, %s0", 32, {32}, operands_of({32}), [](auto a, auto, auto, auto) {
        return bits_of(static_cast<float>(static_cast<long double>(a)));
    });
    check_instruction("cvt.rn.f32.u64 %d, %s0", 32, {64}, operands_of({64}), [](auto a, auto, auto, auto) {
        return bits_of(static_cast<float>(static_cast<long double>(a)));
    });
    check_instruction("cvt.rn.f64.s64 %d, %s0", 64, {64}, operands_of({64}), [](auto a, auto, auto, auto) {
        return bits_of(static_cast<double>(static_cast<long double>(static_cast<std::int64_t>(a))));
    });
    check_instruction("cvt.rn.f32.u8 %d, %s0", 32, {16}, operands_of({16}),
                      [](auto a, auto, auto, auto) { return bits_of(static_cast<float>(a & 255)); });
    check_instruction("cvt.rn.f32.s16 %d, %s0", 32, {16}, operands_of({16}), [](auto a, auto, auto, auto) {
        return bits_of(static_cast<float>(static_cast<std::int64_t>(cut(a, 16, true))));
    });
    check_instruction("cvt.rz.f32.u32 %d, %s0", 32, {32}, operands_of({32}), [](auto a, auto, auto, auto) {
        unsigned drop = 0;
        while (a >> drop >= 1u << 24) ++drop;
        return bits_of(static_cast<float>(a >> drop << drop));
    });
    check_instruction("cvt.rn.f16.s32 %d, %s0", 16, {32}, operands_of({32}),
                      [](auto a, auto, auto, auto) { return kF16.nearest(static_cast<std::int32_t>(a)); });
}

BOOST_AUTO_TEST_CASE(between_floats) {
    const auto same_nan = [](float x) { return x != x ? std::uint64_t{0x7fffffff} : bits_of(x); };
    check_instruction("cvt.rn.f32.f64 %d, %s0", 32, {64}, doubles_of(1), [&](auto a, auto, auto, auto) {
        return same_nan(static_cast<float>(static_cast<long double>(as_double(a))));
    });
    check_instruction("cvt.f64.f32 %d, %s0", 64, {32}, {{bits_of(1.5f), bits_of(-0x1p-149f), bits_of(3e38f)}},
                      [](auto a, auto, auto, auto) { return bits_of(double(as_float(a))); });
    for (const auto& [name, round] : {std::pair<const char*, double (*)(double)>{"rni", &round_half_even},
                                      {"rzi", [](double x) { return std::trunc(x); }},
                                      {"rmi", [](double x) { return std::floor(x); }}})
        check_instruction(std::string("cvt.") + name + ".f32.f32 %d, %s0", 32, {32}, floats_of(1),
                          [&, r = round](auto a, auto, auto, auto) {
                              const float x = as_float(a);
                              return x != x || std::isinf(x) ? same_nan(x)
                                                             : bits_of(std::copysign(static_cast<float>(r(x)), x));
                          });
    check_instruction("cvt.sat.f32.f32 %d, %s0", 32, {32}, floats_of(1), [](auto a, auto, auto, auto) {
        return as_float(a) > 0 ? (as_float(a) < 1 ? a : bits_of(1.0f)) : 0;
    });
    check_instruction("cvt.rna.tf32.f32 %d, %s0", 32, {32}, {{0x3f801000, 0x3f800fff, 0x3f801001, 0xbf803000}},
                      [](auto a, auto, auto, auto) { return (a + 0x1000) & 0xffffe000u; });
}

BOOST_AUTO_TEST_CASE(halves) {
    for (const HalfFormat& format : {kF16, kBf16}) {
        const std::string name = format.name;
        const auto value = [&](std::uint64_t bits) { return format.value(static_cast<unsigned>(bits)); };
        check_instruction("cvt.rn." + name + ".f32 %d, %s0", 16, {32}, floats_of(1, 4096),
                          [&](auto a, auto, auto, auto) { return format.nearest(as_float(a)); });
        check_instruction("cvt.f32." + name + " %d, %s0", 32, {16}, halves_of(1, 2048), [&](auto a, auto, auto, auto) {
            return value(a) != value(a)
                       ? (name == "f16" ? 0u : 0x7fffffffu) |
                             (name == "f16" ? ((a & 0x8000) << 16 | 0x7f800000 | (a & 0x3ff) << 13) : 0u)
                       : bits_of(static_cast<float>(value(a)));
        });
        check_instruction("cvt.rn." + name + "x2.f32 %d, %s0, %s1", 32, {32, 32}, floats_of(2, 512),
                          [&](auto a, auto b, auto, auto) {
                              return std::uint64_t{format.nearest(as_float(a))} << 16 | format.nearest(as_float(b));
                          });
    }
    check_instruction(
        "cvt.rn.f16.f64 %d, %s0", 16, {64},
        {{bits_of(1.0 + 0x1p-11 + 0x1p-40), bits_of(1.0 + 0x1p-11), bits_of(1e9), bits_of(-0x1p-25 - 0x1p-60)}},
        [](auto a, auto, auto, auto) { return kF16.nearest(as_double(a)); });
}

BOOST_AUTO_TEST_CASE(arithmetic_of_halves) {
    for (const HalfFormat& format : {kF16, kBf16}) {
        const std::string name = format.name;
        const auto v = [&](std::uint64_t bits) {
            return static_cast<long double>(format.value(static_cast<unsigned>(bits)));
        };
        const auto near = [&](long double x) { return format.nearest(x); };
        check_instruction("add.rn." + name + " %d, %s0, %s1", 16, {16, 16}, halves_of(2, 1024),
                          [&](auto a, auto b, auto, auto) { return near(decided_sum(v(a), v(b))); });
        check_instruction("sub." + name + " %d, %s0, %s1", 16, {16, 16}, halves_of(2, 1024),
                          [&](auto a, auto b, auto, auto) { return near(decided_sum(v(a), -v(b))); });
        check_instruction("mul." + name + " %d, %s0, %s1", 16, {16, 16}, halves_of(2, 1024),
                          [&](auto a, auto b, auto, auto) { return near(v(a) * v(b)); });
        check_instruction("fma.rn." + name + " %d, %s0, %s1, %s2", 16, {16, 16, 16}, halves_of(3, 1024),
                          [&](auto a, auto b, auto c, auto) { return near(decided_sum(v(a) * v(b), v(c))); });
        const auto larger = [&](std::uint64_t a, std::uint64_t b) {
            return std::uint64_t{v(a) != v(a)   ? (v(b) != v(b) ? 0x7fffu : b)
                                 : v(b) != v(b) ? a
                                 : v(a) == v(b) ? (a >> 15 ? b : a)
                                 : v(a) > v(b)  ? a
                                                : b};
        };
        check_instruction("max." + name + " %d, %s0, %s1", 16, {16, 16}, halves_of(2),
                          [&](auto a, auto b, auto, auto) { return larger(a, b); });
        check_instruction("max." + name + "x2 %d, %s0, %s1", 32, {32, 32}, operands_of({32, 32}),
                          [&](auto a, auto b, auto, auto) {
                              return larger(a & 0xffff, b & 0xffff) | larger(a >> 16, b >> 16) << 16;
                          });
        check_instruction(
            "fma.rn." + name + "x2 %d, %s0, %s1, %s2", 32, {32, 32, 32}, operands_of({32, 32, 32}),
            [&](auto a, auto b, auto c, auto) {
                const auto part = [&](unsigned k) {
                    return std::uint64_t{near(decided_sum(v(a >> k & 0xffff) * v(b >> k & 0xffff), v(c >> k & 0xffff)))}
                           << k;
                };
                return part(0) | part(16);
            });
        check_instruction("neg." + name + " %d, %s0", 16, {16}, halves_of(1),
                          [](auto a, auto, auto, auto) { return a ^ 0x8000; });
        check_instruction("abs." + name + "x2 %d, %s0", 32, {32}, operands_of({32}),
                          [](auto a, auto, auto, auto) { return a & 0x7fff7fffu; });
    }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
