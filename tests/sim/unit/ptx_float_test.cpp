// Tests of the floating-point instructions of the interpreter. The expected values are computed in higher precision
// (long double, which is exact for sums and products of f32) and rounded here, or follow from properties that define
// the result. ptx_convert_test.cpp tests conversions and arithmetic of halves.
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

constexpr std::uint64_t kNan = 0x7fffffff;

std::uint64_t word(long double x) { return x != x ? kNan : bits_of(static_cast<float>(x)); }
bool is_subnormal(float x) { return x != 0 && std::fabs(x) < 0x1p-126f; }
float flush(float x) { return is_subnormal(x) ? std::copysign(0.0f, x) : x; }
std::uint64_t flush_bits(std::uint64_t x) { return is_subnormal(as_float(x)) ? x & 0x80000000u : x; }
std::uint64_t clamp_bits(std::uint64_t x) {
    return x == kNan || as_float(x) <= 0 ? 0 : as_float(x) >= 1 ? bits_of(1.0f) : x;
}

/// Checks `op.f32` with and without .ftz and .sat. `exact` computes the result in long double.
template <class Exact> void check_f32(const std::string& op, unsigned sources, Exact exact) {
    const std::string rest = sources == 1 ? " %d, %s0" : sources == 2 ? " %d, %s0, %s1" : " %d, %s0, %s1, %s2";
    const std::vector<unsigned> bits(sources, 32);
    const auto value = [&](std::uint64_t a, std::uint64_t b, std::uint64_t c, bool ftz) -> std::uint64_t {
        const auto in = [&](std::uint64_t x) {
            return static_cast<long double>(ftz ? flush(as_float(x)) : as_float(x));
        };
        const std::uint64_t result = word(exact(in(a), in(b), in(c)));
        return ftz ? flush_bits(result) : result;
    };
    check_instruction(op + ".f32" + rest, 32, bits, floats_of(sources, 2048),
                      [&](auto a, auto b, auto c, auto) { return value(a, b, c, false); });
    check_instruction(op + ".ftz.f32" + rest, 32, bits, floats_of(sources, 2048),
                      [&](auto a, auto b, auto c, auto) { return value(a, b, c, true); });
    check_instruction(op + ".sat.f32" + rest, 32, bits, floats_of(sources),
                      [&](auto a, auto b, auto c, auto) { return clamp_bits(value(a, b, c, false)); });
    check_instruction(op + ".ftz.sat.f32" + rest, 32, bits, floats_of(sources),
                      [&](auto a, auto b, auto c, auto) { return clamp_bits(value(a, b, c, true)); });
}

/// Checks that results lie within `ulps` units in the last place of a formula in double, and are NaN where it is NaN.
template <class Formula>
void check_near(const std::string& instruction, unsigned sources, double ulps, bool ftz, Formula formula) {
    const std::vector<Values> operands = floats_of(sources, 1024);
    const Values got = run_instruction(instruction, 32, std::vector<unsigned>(sources, 32), operands);
    for (std::size_t k = 0; k < got.size(); ++k) {
        const auto in = [&](std::size_t n) {
            return double(ftz ? flush(as_float(operands[n][k])) : as_float(operands[n][k]));
        };
        const double expected = formula(in(0), sources > 1 ? in(1) : 0.0);
        const float result = as_float(got[k]),
                    near = ftz ? flush(static_cast<float>(expected)) : static_cast<float>(expected);
        const float step = std::max(std::fabs(std::nextafter(near, std::numeric_limits<float>::infinity()) - near),
                                    std::numeric_limits<float>::denorm_min());
        const bool same = near != near ? got[k] == kNan
                          : std::isinf(near) || near == 0
                              ? result == near || std::fabs(result - near) <= ulps * double(step)
                              : std::fabs(double(result) - expected) <= ulps * double(step);
        BOOST_CHECK_MESSAGE(same, instruction << " of " << in(0) << " gives " << result << " instead of " << near);
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_float)

BOOST_AUTO_TEST_CASE(sums_and_products) {
    check_f32("add", 2, [](long double a, long double b, long double) { return decided_sum(a, b); });
    check_f32("add.rn", 2, [](long double a, long double b, long double) { return decided_sum(a, b); });
    check_f32("sub", 2, [](long double a, long double b, long double) { return decided_sum(a, -b); });
    check_f32("mul", 2, [](long double a, long double b, long double) { return a * b; });
    check_f32("fma.rn", 3, [](long double a, long double b, long double c) { return decided_sum(a * b, c); });
    check_instruction("add.f64 %d, %s0, %s1", 64, {64, 64}, doubles_of(2),
                      [](auto a, auto b, auto, auto) { return bits_of(as_double(a) + as_double(b)); });
    check_instruction("mul.rn.f64 %d, %s0, %s1", 64, {64, 64}, doubles_of(2),
                      [](auto a, auto b, auto, auto) { return bits_of(as_double(a) * as_double(b)); });
}

BOOST_AUTO_TEST_CASE(one_rounding_in_fma) {
    // (1 + e)(1 - e) - 1 = -e^2 would be lost with two roundings.
    const float e = 0x1p-12f;
    check_instruction("fma.rn.f32 %d, %s0, %s1, %s2", 32, {32, 32, 32},
                      {{bits_of(1 + e)}, {bits_of(1 - e)}, {bits_of(-1.0f)}},
                      [&](auto, auto, auto, auto) { return bits_of(-e * e); });
    check_instruction("fma.rn.f64 %d, %s0, %s1, %s2", 64, {64, 64, 64},
                      {{bits_of(1 + 0x1p-30)}, {bits_of(1 - 0x1p-30)}, {bits_of(-1.0)}},
                      [&](auto, auto, auto, auto) { return bits_of(-0x1p-60); });
}

BOOST_AUTO_TEST_CASE(directed_roundings) {
    // 1 + 2^-30 lies between 1 and the next float.
    const auto check = [](const std::string& op, float a, float b, float expected) {
        check_instruction(op + ".f32 %d, %s0, %s1", 32, {32, 32}, {{bits_of(a)}, {bits_of(b)}},
                          [&](auto, auto, auto, auto) { return bits_of(expected); });
    };
    const float above = std::nextafter(1.0f, 2.0f), below = std::nextafter(1.0f, 0.0f);
    check("add.rz", 1.0f, 0x1p-30f, 1.0f), check("add.rm", 1.0f, 0x1p-30f, 1.0f),
        check("add.rp", 1.0f, 0x1p-30f, above);
    check("sub.rz", 1.0f, 0x1p-30f, below), check("sub.rm", 1.0f, 0x1p-30f, below),
        check("sub.rp", 1.0f, 0x1p-30f, 1.0f);
    check("mul.rz", above, above, std::nextafter(above, 2.0f)),
        check("mul.rp", above, above, std::nextafter(std::nextafter(above, 2.0f), 2.0f));
    check_instruction("fma.rm.f32 %d, %s0, %s1, %s2", 32, {32, 32, 32},
                      {{bits_of(1.0f)}, {bits_of(-0x1p-30f)}, {bits_of(1.0f)}},
                      [&](auto, auto, auto, auto) { return bits_of(below); });
    check_instruction("fma.rp.f32 %d, %s0, %s1, %s2", 32, {32, 32, 32},
                      {{bits_of(1.0f)}, {bits_of(0x1p-30f)}, {bits_of(1.0f)}},
                      [&](auto, auto, auto, auto) { return bits_of(above); });
}

BOOST_AUTO_TEST_CASE(least_and_greatest) {
    const auto ordered = [](bool least, std::uint64_t a, std::uint64_t b, bool nan) -> std::uint64_t {
        const float x = as_float(a), y = as_float(b);
        if (nan && (x != x || y != y)) return kNan;
        if (x != x) return y != y ? kNan : b;
        if (y != y) return a;
        if (x == y) return (a == 0x80000000u) == least ? a : b;  // -0 is less than +0
        return (x < y) == least ? a : b;
    };
    for (const bool least : {true, false}) {
        const std::string op = least ? "min" : "max";
        check_instruction(op + ".f32 %d, %s0, %s1", 32, {32, 32}, floats_of(2),
                          [&](auto a, auto b, auto, auto) { return ordered(least, a, b, false); });
        check_instruction(op + ".NaN.f32 %d, %s0, %s1", 32, {32, 32}, floats_of(2),
                          [&](auto a, auto b, auto, auto) { return ordered(least, a, b, true); });
        check_instruction(op + ".ftz.f32 %d, %s0, %s1", 32, {32, 32}, floats_of(2), [&](auto a, auto b, auto, auto) {
            return ordered(least, flush_bits(a), flush_bits(b), false);
        });
    }
    check_instruction("min.f64 %d, %s0, %s1", 64, {64, 64},
                      {{bits_of(-0.0), bits_of(3.0), bits_of(2.0)}, {bits_of(0.0), bits_of(-4.0), 0x7ff8000000000000u}},
                      [](auto a, auto b, auto, auto) {
                          return as_double(a) < 2 && as_double(a) == 0 ? a : b == 0x7ff8000000000000u ? a : b;
                      });
}

BOOST_AUTO_TEST_CASE(signs) {
    check_instruction("neg.f32 %d, %s0", 32, {32}, floats_of(1),
                      [](auto a, auto, auto, auto) { return a ^ 0x80000000u; });
    check_instruction("abs.f32 %d, %s0", 32, {32}, floats_of(1),
                      [](auto a, auto, auto, auto) { return a & 0x7fffffffu; });
    check_instruction("abs.ftz.f32 %d, %s0", 32, {32}, floats_of(1),
                      [](auto a, auto, auto, auto) { return flush_bits(a) & 0x7fffffffu; });
    check_instruction("neg.f64 %d, %s0", 64, {64}, doubles_of(1),
                      [](auto a, auto, auto, auto) { return a ^ 0x8000000000000000u; });
    check_instruction("copysign.f32 %d, %s0, %s1", 32, {32, 32}, floats_of(2),
                      [](auto a, auto b, auto, auto) { return (a & 0x80000000u) | (b & 0x7fffffffu); });
    const auto exponent = [](std::uint64_t a) { return a >> 23 & 255; };
    check_instruction("testp.finite.f32 %d, %s0", 1, {32}, floats_of(1),
                      [&](auto a, auto, auto, auto) { return exponent(a) != 255; });
    check_instruction("testp.infinite.f32 %d, %s0", 1, {32}, floats_of(1),
                      [&](auto a, auto, auto, auto) { return (a & 0x7fffffffu) == 0x7f800000u; });
    check_instruction("testp.notanumber.f32 %d, %s0", 1, {32}, floats_of(1),
                      [&](auto a, auto, auto, auto) { return (a & 0x7fffffffu) > 0x7f800000u; });
    check_instruction("testp.normal.f32 %d, %s0", 1, {32}, floats_of(1),
                      [&](auto a, auto, auto, auto) { return exponent(a) != 255 && exponent(a) != 0; });
}

BOOST_AUTO_TEST_CASE(relations) {
    struct Case {
        const char* name;
        bool less, equal, greater, unordered;
    };
    for (const Case c : {Case{"eq", 0, 1, 0, 0},
                         {"ne", 1, 0, 1, 0},
                         {"lt", 1, 0, 0, 0},
                         {"le", 1, 1, 0, 0},
                         {"gt", 0, 0, 1, 0},
                         {"ge", 0, 1, 1, 0},
                         {"equ", 0, 1, 0, 1},
                         {"neu", 1, 0, 1, 1},
                         {"ltu", 1, 0, 0, 1},
                         {"leu", 1, 1, 0, 1},
                         {"gtu", 0, 0, 1, 1},
                         {"geu", 0, 1, 1, 1},
                         {"num", 1, 1, 1, 0},
                         {"nan", 0, 0, 0, 1}}) {
        const auto holds = [&](auto x, auto y) {
            return x < y ? c.less : x > y ? c.greater : x == y ? c.equal : c.unordered;
        };
        const std::string op = std::string("setp.") + c.name;
        check_instruction(op + ".f32 %d, %s0, %s1", 1, {32, 32}, floats_of(2),
                          [&](auto a, auto b, auto, auto) { return holds(as_float(a), as_float(b)); });
        check_instruction(op + ".ftz.f32 %d, %s0, %s1", 1, {32, 32}, floats_of(2),
                          [&](auto a, auto b, auto, auto) { return holds(flush(as_float(a)), flush(as_float(b))); });
        check_instruction(op + ".f64 %d, %s0, %s1", 1, {64, 64}, doubles_of(2),
                          [&](auto a, auto b, auto, auto) { return holds(as_double(a), as_double(b)); });
        check_instruction(op + ".bf16 %d, %s0, %s1", 1, {16, 16}, halves_of(2),
                          [&](auto a, auto b, auto, auto) { return holds(as_float(a << 16), as_float(b << 16)); });
    }
}

BOOST_AUTO_TEST_CASE(quotients_and_roots) {
    for (const std::string kind : {"div.rn", "div.full"})
        check_near(kind + ".f32 %d, %s0, %s1", 2, kind == "div.rn" ? 0.5 : 2, false,
                   [](double a, double b) { return a / b; });
    check_near("div.rn.ftz.f32 %d, %s0, %s1", 2, 0.5, true, [](double a, double b) { return a / b; });
    check_near("rcp.rn.f32 %d, %s0", 1, 0.5, false, [](double a, double) { return 1 / a; });
    check_near("rcp.approx.ftz.f32 %d, %s0", 1, 1, true, [](double a, double) { return 1 / a; });
    check_near("sqrt.rn.f32 %d, %s0", 1, 0.5, false, [](double a, double) { return std::sqrt(a); });
    check_near("sqrt.approx.ftz.f32 %d, %s0", 1, 1, true, [](double a, double) { return std::sqrt(a); });
    check_near("rsqrt.approx.f32 %d, %s0", 1, 2, false, [](double a, double) { return 1 / std::sqrt(a); });
    check_near("rsqrt.approx.ftz.f32 %d, %s0", 1, 2, true, [](double a, double) { return 1 / std::sqrt(a); });
    check_instruction("div.rn.f64 %d, %s0, %s1", 64, {64, 64},
                      {{bits_of(1.0), bits_of(-7.0)}, {bits_of(3.0), bits_of(2.0)}},
                      [](auto a, auto b, auto, auto) { return bits_of(as_double(a) / as_double(b)); });
    check_instruction("sqrt.rn.f64 %d, %s0", 64, {64}, {{bits_of(2.0)}},
                      [](auto, auto, auto, auto) { return bits_of(1.4142135623730951); });
    check_instruction("rcp.approx.ftz.f64 %d, %s0", 64, {64}, {{bits_of(3.0)}},
                      [](auto, auto, auto, auto) { return bits_of(1.0 / 3) & 0xffffffff00000000u; });
    // div.approx gives 0 where the reciprocal of the divisor would be subnormal.
    check_instruction("div.approx.f32 %d, %s0, %s1", 32, {32, 32},
                      {{bits_of(1.0f), bits_of(6.0f)}, {bits_of(0x1.8p126f), bits_of(3.0f)}},
                      [](auto a, auto, auto, auto) { return a == bits_of(6.0f) ? bits_of(2.0f) : 0; });
}

BOOST_AUTO_TEST_CASE(approximate_functions) {
    check_near("ex2.approx.f32 %d, %s0", 1, 0.5001, false, [](double a, double) { return std::exp2(a); });
    check_near("ex2.approx.ftz.f32 %d, %s0", 1, 0.5001, true, [](double a, double) { return std::exp2(a); });
    check_near("lg2.approx.f32 %d, %s0", 1, 2, false, [](double a, double) { return std::log2(a); });
    check_near("lg2.approx.ftz.f32 %d, %s0", 1, 2, true, [](double a, double) { return std::log2(a); });
    check_near("tanh.approx.f32 %d, %s0", 1, 2, false, [](double a, double) { return std::tanh(a); });
    check_near("sin.approx.f32 %d, %s0", 1, 2, false, [](double a, double) { return std::sin(a); });
    check_near("cos.approx.ftz.f32 %d, %s0", 1, 2, true, [](double a, double) { return std::cos(a); });
}

BOOST_AUTO_TEST_CASE(powers_of_two_are_rounded_once) {
    std::mt19937 generator(3);
    std::uniform_real_distribution<float> uniform(-3, 3);
    std::vector<Values> operands(1);
    for (int k = 0; k < 8192; ++k) operands[0].push_back(bits_of(uniform(generator)));
    check_instruction("ex2.approx.ftz.f32 %d, %s0", 32, {32}, operands, [](auto a, auto, auto, auto) {
        return bits_of(static_cast<float>(std::exp2(double(as_float(a)))));
    });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
