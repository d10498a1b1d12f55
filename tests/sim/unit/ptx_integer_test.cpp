// Tests of the integer instructions of the interpreter, against formulas in wider integers. ptx_bits_test.cpp tests
// bitwise instructions, shifts and comparisons.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

__extension__ using Wide = __int128;
__extension__ using UWide = unsigned __int128;

/// The low `bits` bits of x as a number, signed or unsigned.
Wide value(std::uint64_t x, unsigned bits, bool is_signed) {
    UWide v = UWide{x} & ((UWide{1} << bits) - 1);
    Wide result = static_cast<Wide>(v);
    if (is_signed && (v >> (bits - 1) & 1)) result -= Wide{1} << bits;
    return result;
}

struct Form {
    unsigned bits;
    bool is_signed;
};
constexpr Form kForms[] = {{16, false}, {16, true}, {32, false}, {32, true}, {64, false}, {64, true}};
std::string type_text(Form form) { return (form.is_signed ? ".s" : ".u") + std::to_string(form.bits); }

/// Checks `op.type d, a, b` for all forms with at least `least` bits.
template <class Formula> void check_two(const std::string& op, Formula formula, unsigned least = 16) {
    for (const Form form : kForms) {
        if (form.bits < least) continue;
        check_instruction(op + type_text(form) + " %d, %s0, %s1", form.bits, {form.bits, form.bits},
                          operands_of({form.bits, form.bits}), [&](auto a, auto b, auto, auto) {
                              return formula(value(a, form.bits, form.is_signed), value(b, form.bits, form.is_signed),
                                             form);
                          });
    }
}

std::uint64_t low(Wide x) { return static_cast<std::uint64_t>(x); }

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_integer)

BOOST_AUTO_TEST_CASE(sums_and_products) {
    check_two("add", [](Wide a, Wide b, Form) { return low(a + b); });
    check_two("sub", [](Wide a, Wide b, Form) { return low(a - b); });
    check_two("mul.lo", [](Wide a, Wide b, Form) {
        return low(static_cast<Wide>(static_cast<UWide>(a) * static_cast<UWide>(b)));
    });
    check_two("min", [](Wide a, Wide b, Form) { return low(a < b ? a : b); });
    check_two("max", [](Wide a, Wide b, Form) { return low(a < b ? b : a); });
}

BOOST_AUTO_TEST_CASE(high_parts_and_wide_products) {
    check_two("mul.hi", [](Wide a, Wide b, Form form) {
        if (form.bits < 64) return low((a * b) >> form.bits);
        // A schoolbook product of unsigned 32-bit digits, then a correction for each negative factor.
        const std::uint64_t x = low(a), y = low(b), x0 = x & 0xffffffffu, x1 = x >> 32, y0 = y & 0xffffffffu,
                            y1 = y >> 32;
        const std::uint64_t middle = x1 * y0 + ((x0 * y0) >> 32), other = x0 * y1 + (middle & 0xffffffffu);
        std::uint64_t high = x1 * y1 + (middle >> 32) + (other >> 32);
        if (form.is_signed && a < 0) high -= y;
        if (form.is_signed && b < 0) high -= x;
        return high;
    });
    for (const Form form : {kForms[0], kForms[1], kForms[2], kForms[3]}) {
        const auto v = [&](std::uint64_t x) { return value(x, form.bits, form.is_signed); };
        check_instruction("mul.wide" + type_text(form) + " %d, %s0, %s1", 2 * form.bits, {form.bits, form.bits},
                          operands_of({form.bits, form.bits}),
                          [&](auto a, auto b, auto, auto) { return low(v(a) * v(b)); });
        check_instruction(
            "mad.wide" + type_text(form) + " %d, %s0, %s1, %s2", 2 * form.bits, {form.bits, form.bits, 2 * form.bits},
            operands_of({form.bits, form.bits, 2 * form.bits}),
            [&](auto a, auto b, auto c, auto) { return low(v(a) * v(b) + value(c, 2 * form.bits, form.is_signed)); });
    }
    for (const Form form : kForms) {
        if (form.bits == 64) continue;
        const auto v = [&](std::uint64_t x) { return value(x, form.bits, form.is_signed); };
        check_instruction("mad.lo" + type_text(form) + " %d, %s0, %s1, %s2", form.bits,
                          {form.bits, form.bits, form.bits}, operands_of({form.bits, form.bits, form.bits}),
                          [&](auto a, auto b, auto c, auto) { return low(v(a) * v(b) + v(c)); });
        check_instruction("mad.hi" + type_text(form) + " %d, %s0, %s1, %s2", form.bits,
                          {form.bits, form.bits, form.bits}, operands_of({form.bits, form.bits, form.bits}),
                          [&](auto a, auto b, auto c, auto) { return low(((v(a) * v(b)) >> form.bits) + v(c)); });
        check_instruction("sad" + type_text(form) + " %d, %s0, %s1, %s2", form.bits, {form.bits, form.bits, form.bits},
                          operands_of({form.bits, form.bits, form.bits}), [&](auto a, auto b, auto c, auto) {
                              return low(v(c) + (v(a) < v(b) ? v(b) - v(a) : v(a) - v(b)));
                          });
    }
}

BOOST_AUTO_TEST_CASE(quotients) {
    check_two("div", [](Wide a, Wide b, Form) { return b == 0 ? ~std::uint64_t{0} : low(a / b); });
    check_two("rem", [](Wide a, Wide b, Form) { return b == 0 ? low(a) : low(a % b); });
}

BOOST_AUTO_TEST_CASE(signs) {
    for (const Form form : kForms) {
        if (!form.is_signed) continue;
        check_instruction("neg" + type_text(form) + " %d, %s0", form.bits, {form.bits}, operands_of({form.bits}),
                          [&](auto a, auto, auto, auto) { return low(-value(a, form.bits, true)); });
        check_instruction(
            "abs" + type_text(form) + " %d, %s0", form.bits, {form.bits}, operands_of({form.bits}),
            [&](auto a, auto, auto, auto) {
                return low(value(a, form.bits, true) < 0 ? -value(a, form.bits, true) : value(a, form.bits, true));
            });
    }
    const auto clamp = [](Wide x) { return low(x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : x); };
    check_instruction("add.sat.s32 %d, %s0, %s1", 32, {32, 32}, operands_of({32, 32}),
                      [&](auto a, auto b, auto, auto) { return clamp(value(a, 32, true) + value(b, 32, true)); });
    check_instruction("sub.sat.s32 %d, %s0, %s1", 32, {32, 32}, operands_of({32, 32}),
                      [&](auto a, auto b, auto, auto) { return clamp(value(a, 32, true) - value(b, 32, true)); });
}

BOOST_AUTO_TEST_CASE(carries) {
    const auto add128 = "{ .reg .b64 %x; add.cc.u64 %x, %s0, %s1; addc.u64 %d, %s2, %s3; }";
    check_instruction(add128, 64, {64, 64, 64, 64}, operands_of({64, 64, 64, 64}),
                      [](auto a, auto b, auto c, auto d) { return c + d + ((UWide{a} + b) >> 64 ? 1 : 0); });
    const auto sub64 = "{ .reg .b32 %x; sub.cc.u32 %x, %s0, %s1; subc.u32 %d, %s2, %s3; }";
    check_instruction(sub64, 32, {32, 32, 32, 32}, operands_of({32, 32, 32, 32}),
                      [](auto a, auto b, auto c, auto d) { return ((c << 32 | a) - (d << 32 | b)) >> 32; });
    const auto mad64 = "{ .reg .b32 %x; mad.lo.cc.u32 %x, %s0, %s1, %s2; madc.hi.u32 %d, %s0, %s1, %s3; }";
    check_instruction(mad64, 32, {32, 32, 32, 32}, operands_of({32, 32, 32, 32}), [](auto a, auto b, auto c, auto d) {
        return low((Wide(a) * Wide(b) + Wide(d << 32 | c)) >> 32);
    });
}

BOOST_AUTO_TEST_CASE(products_of_24_bits) {
    check_instruction("mul24.lo.u32 %d, %s0, %s1", 32, {32, 32}, operands_of({32, 32}),
                      [](auto a, auto b, auto, auto) { return (a & 0xffffff) * (b & 0xffffff); });
    check_instruction("mul24.lo.s32 %d, %s0, %s1", 32, {32, 32}, operands_of({32, 32}),
                      [](auto a, auto b, auto, auto) { return low(value(a, 24, true) * value(b, 24, true)); });
    check_instruction(
        "mad24.lo.s32 %d, %s0, %s1, %s2", 32, {32, 32, 32}, operands_of({32, 32, 32}),
        [](auto a, auto b, auto c, auto) { return low(value(a, 24, true) * value(b, 24, true) + value(c, 32, true)); });
}

BOOST_AUTO_TEST_CASE(dot_products) {
    const auto field = [](std::uint64_t x, unsigned bits, unsigned k, bool is_signed) {
        const std::int64_t value = x >> bits * k & ((1u << bits) - 1);
        return is_signed && value >> (bits - 1) ? value - (std::int64_t{1} << bits) : value;
    };
    for (const unsigned kind : {0u, 1u, 2u, 3u}) {
        const bool a_signed = kind & 1, b_signed = kind & 2;
        const std::string types =
            std::string(a_signed ? ".s32" : ".u32") + (b_signed ? ".s32" : ".u32") + " %d, %s0, %s1, %s2";
        check_instruction("dp4a" + types, 32, {32, 32, 32}, operands_of({32, 32, 32}),
                          [&](auto a, auto b, auto c, auto) {
                              std::int64_t sum = static_cast<std::int64_t>(c);
                              for (unsigned k = 0; k < 4; ++k)
                                  sum += field(a, 8, k, a_signed) * field(b, 8, k, b_signed);
                              return sum;
                          });
        for (const unsigned first : {0u, 2u})
            check_instruction(std::string("dp2a.") + (first ? "hi" : "lo") + types, 32, {32, 32, 32},
                              operands_of({32, 32, 32}), [&](auto a, auto b, auto c, auto) {
                                  std::int64_t sum = static_cast<std::int64_t>(c);
                                  for (unsigned k = 0; k < 2; ++k)
                                      sum += field(a, 16, k, a_signed) * field(b, 8, first + k, b_signed);
                                  return sum;
                              });
    }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
