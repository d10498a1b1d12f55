// Tests of bitwise instructions, shifts, comparisons, selections and moves of the interpreter, against formulas that
// compute the result bit by bit.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

unsigned bit(std::uint64_t x, unsigned k) { return k < 64 ? x >> k & 1 : 0; }
std::int64_t sign_extended(std::uint64_t x, unsigned bits) {
    return static_cast<std::int64_t>(x << (64 - bits)) >> (64 - bits);
}

/// The number whose bit k is at(k), for k < width.
template <class Bit> std::uint64_t from_bits(unsigned width, Bit at) {
    std::uint64_t result = 0;
    for (unsigned k = 0; k < width; ++k) result |= std::uint64_t{at(k) & 1u} << k;
    return result;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_bits)

BOOST_AUTO_TEST_CASE(logic) {
    for (const unsigned w : {16u, 32u, 64u}) {
        const std::string type = ".b" + std::to_string(w);
        check_instruction("and" + type + " %d, %s0, %s1", w, {w, w}, operands_of({w, w}),
                          [&](auto a, auto b, auto, auto) {
                              return from_bits(w, [&](unsigned k) { return bit(a, k) && bit(b, k); });
                          });
        check_instruction("or" + type + " %d, %s0, %s1", w, {w, w}, operands_of({w, w}),
                          [&](auto a, auto b, auto, auto) {
                              return from_bits(w, [&](unsigned k) { return bit(a, k) || bit(b, k); });
                          });
        check_instruction("xor" + type + " %d, %s0, %s1", w, {w, w}, operands_of({w, w}),
                          [&](auto a, auto b, auto, auto) {
                              return from_bits(w, [&](unsigned k) { return bit(a, k) != bit(b, k); });
                          });
        check_instruction("not" + type + " %d, %s0", w, {w}, operands_of({w}), [&](auto a, auto, auto, auto) {
            return from_bits(w, [&](unsigned k) { return !bit(a, k); });
        });
        check_instruction("cnot" + type + " %d, %s0", w, {w}, operands_of({w}),
                          [](auto a, auto, auto, auto) { return a == 0; });
    }
    check_instruction("and.pred %d, %s0, %s1", 1, {1, 1}, operands_of({1, 1}, 0),
                      [](auto a, auto b, auto, auto) { return a && b; });
    check_instruction("or.pred %d, %s0, %s1", 1, {1, 1}, operands_of({1, 1}, 0),
                      [](auto a, auto b, auto, auto) { return a || b; });
    check_instruction("xor.pred %d, %s0, %s1", 1, {1, 1}, operands_of({1, 1}, 0),
                      [](auto a, auto b, auto, auto) { return a != b; });
    check_instruction("not.pred %d, %s0", 1, {1}, operands_of({1}, 0), [](auto a, auto, auto, auto) { return !a; });
    for (const unsigned table : {0x00u, 0x96u, 0xe8u, 0x1au, 0x80u, 0xffu})
        check_instruction("lop3.b32 %d, %s0, %s1, %s2, " + std::to_string(table), 32, {32, 32, 32},
                          operands_of({32, 32, 32}), [&](auto a, auto b, auto c, auto) {
                              return from_bits(
                                  32, [&](unsigned k) { return table >> (4 * bit(a, k) + 2 * bit(b, k) + bit(c, k)); });
                          });
}

BOOST_AUTO_TEST_CASE(counting_and_finding) {
    for (const unsigned w : {32u, 64u}) {
        const std::string type = std::to_string(w);
        const auto highest = [&](std::uint64_t a, bool inverted) {
            for (unsigned k = w; k-- > 0;)
                if (bit(a, k) != unsigned{inverted}) return static_cast<int>(k);
            return -1;
        };
        check_instruction("popc.b" + type + " %d, %s0", 32, {w}, operands_of({w}), [&](auto a, auto, auto, auto) {
            unsigned n = 0;
            for (unsigned k = 0; k < w; ++k) n += bit(a, k);
            return n;
        });
        check_instruction("clz.b" + type + " %d, %s0", 32, {w}, operands_of({w}),
                          [&](auto a, auto, auto, auto) { return static_cast<int>(w) - 1 - highest(a, false); });
        check_instruction("brev.b" + type + " %d, %s0", w, {w}, operands_of({w}), [&](auto a, auto, auto, auto) {
            return from_bits(w, [&](unsigned k) { return bit(a, w - 1 - k); });
        });
        check_instruction("bfind.u" + type + " %d, %s0", 32, {w}, operands_of({w}),
                          [&](auto a, auto, auto, auto) { return highest(a, false); });
        check_instruction("bfind.s" + type + " %d, %s0", 32, {w}, operands_of({w}),
                          [&](auto a, auto, auto, auto) { return highest(a, bit(a, w - 1)); });
        check_instruction("bfind.shiftamt.u" + type + " %d, %s0", 32, {w}, operands_of({w}),
                          [&](auto a, auto, auto, auto) {
                              return highest(a, false) < 0 ? -1 : static_cast<int>(w) - 1 - highest(a, false);
                          });
    }
}

BOOST_AUTO_TEST_CASE(fields) {
    for (const unsigned w : {32u, 64u}) {
        for (const bool is_signed : {false, true})  // as in the pseudo code of the PTX ISA
            check_instruction(
                std::string("bfe.") + (is_signed ? "s" : "u") + std::to_string(w) + " %d, %s0, %s1, %s2", w,
                {w, 32, 32}, operands_of({w, 32, 32}), [&](auto a, auto b, auto c, auto) {
                    const unsigned position = b & 255, length = c & 255, top = w - 1;
                    const unsigned sign = !is_signed || length == 0 ? 0 : bit(a, std::min(position + length - 1, top));
                    return from_bits(
                        w, [&](unsigned k) { return k < length && position + k <= top ? bit(a, position + k) : sign; });
                });
        check_instruction("bfi.b" + std::to_string(w) + " %d, %s0, %s1, %s2, %s3", w, {w, w, 32, 32},
                          operands_of({w, w, 32, 32}), [&](auto a, auto b, auto c, auto d) {
                              const unsigned position = c & 255, length = d & 255;
                              return from_bits(w, [&](unsigned k) {
                                  return k >= position && k < position + length ? bit(a, k - position) : bit(b, k);
                              });
                          });
    }
    for (const bool wraps : {false, true})
        check_instruction(std::string("bmsk.") + (wraps ? "wrap" : "clamp") + ".b32 %d, %s0, %s1", 32, {32, 32},
                          operands_of({32, 32}), [&](auto a, auto b, auto, auto) {
                              const std::uint64_t first = wraps ? a % 32 : a, many = wraps ? b % 32 : b;
                              return from_bits(32, [&](unsigned k) { return k >= first && k - first < many; });
                          });
    check_instruction("prmt.b32 %d, %s0, %s1, %s2", 32, {32, 32, 32}, operands_of({32, 32, 32}),
                      [](auto a, auto b, auto c, auto) {
                          unsigned char bytes[8];
                          for (unsigned k = 0; k < 4; ++k)
                              bytes[k] = static_cast<unsigned char>(a >> 8 * k),
                              bytes[4 + k] = static_cast<unsigned char>(b >> 8 * k);
                          std::uint64_t result = 0;
                          for (unsigned k = 0; k < 4; ++k) {
                              const unsigned selector = c >> 4 * k & 15, byte = bytes[selector % 8];
                              result |= std::uint64_t{selector >= 8 ? (byte >= 128 ? 0xffu : 0u) : byte} << 8 * k;
                          }
                          return result;
                      });
}

BOOST_AUTO_TEST_CASE(shifts) {
    for (const unsigned w : {16u, 32u, 64u}) {
        const std::string bits = std::to_string(w);
        check_instruction(
            "shl.b" + bits + " %d, %s0, %s1", w, {w, 32}, operands_of({w, 32}), [&](auto a, auto b, auto, auto) {
                return from_bits(w, [&](unsigned k) { return k >= b ? bit(a, k - static_cast<unsigned>(b)) : 0u; });
            });
        check_instruction(
            "shr.u" + bits + " %d, %s0, %s1", w, {w, 32}, operands_of({w, 32}), [&](auto a, auto b, auto, auto) {
                return from_bits(w, [&](unsigned k) { return k + b < w ? bit(a, k + static_cast<unsigned>(b)) : 0u; });
            });
        check_instruction(
            "shr.s" + bits + " %d, %s0, %s1", w, {w, 32}, operands_of({w, 32}), [&](auto a, auto b, auto, auto) {
                return from_bits(w,
                                 [&](unsigned k) { return bit(a, k + b < w ? k + static_cast<unsigned>(b) : w - 1); });
            });
    }
    for (const bool wraps : {false, true}) {
        const auto amount = [&](std::uint64_t c) {
            return static_cast<unsigned>(wraps ? c % 32 : std::min<std::uint64_t>(c, 32));
        };
        const std::string mode = wraps ? "wrap" : "clamp";
        const auto all_bits = [](std::uint64_t a, std::uint64_t b) {
            return [=](unsigned k) { return k < 32 ? bit(a, k) : bit(b, k - 32); };
        };
        check_instruction("shf.l." + mode + ".b32 %d, %s0, %s1, %s2", 32, {32, 32, 32}, operands_of({32, 32, 32}),
                          [&](auto a, auto b, auto c, auto) {
                              return from_bits(32, [&](unsigned k) { return all_bits(a, b)(k + 32 - amount(c)); });
                          });
        check_instruction("shf.r." + mode + ".b32 %d, %s0, %s1, %s2", 32, {32, 32, 32}, operands_of({32, 32, 32}),
                          [&](auto a, auto b, auto c, auto) {
                              return from_bits(32, [&](unsigned k) { return all_bits(a, b)(k + amount(c)); });
                          });
    }
}

BOOST_AUTO_TEST_CASE(comparisons_of_integers) {
    for (const unsigned w : {16u, 32u, 64u})
        for (const bool is_signed : {false, true}) {
            const std::string type = (is_signed ? ".s" : ".u") + std::to_string(w);
            const auto order = [&](std::uint64_t a, std::uint64_t b) {
                return is_signed
                           ? (sign_extended(a, w) > sign_extended(b, w)) - (sign_extended(a, w) < sign_extended(b, w))
                           : (a > b) - (a < b);
            };
            const auto check = [&](const std::string& relation, auto holds) {
                check_instruction("setp." + relation + type + " %d, %s0, %s1", 1, {w, w}, operands_of({w, w}),
                                  [&](auto a, auto b, auto, auto) { return holds(order(a, b)); });
            };
            check("eq", [](int o) { return o == 0; });
            check("ne", [](int o) { return o != 0; });
            check("lt", [](int o) { return o < 0; });
            check("le", [](int o) { return o <= 0; });
            check("gt", [](int o) { return o > 0; });
            check("ge", [](int o) { return o >= 0; });
            if (!is_signed) check("lo", [](int o) { return o < 0; });
            if (!is_signed) check("hs", [](int o) { return o >= 0; });
        }
    check_instruction("setp.lt.and.s32 %d, %s0, %s1, %s2", 1, {32, 32, 1}, operands_of({32, 32, 1}),
                      [](auto a, auto b, auto c, auto) { return sign_extended(a, 32) < sign_extended(b, 32) && c; });
    check_instruction("setp.lt.or.s32 %d, %s0, %s1, !%s2", 1, {32, 32, 1}, operands_of({32, 32, 1}),
                      [](auto a, auto b, auto c, auto) { return sign_extended(a, 32) < sign_extended(b, 32) || !c; });
    check_instruction("{ .reg .pred %x; setp.gt.xor.u32 %x|%d, %s0, %s1, %s2; }", 1, {32, 32, 1},
                      operands_of({32, 32, 1}), [](auto a, auto b, auto c, auto) { return !(a > b) != (c != 0); });
    check_instruction("set.le.u32.u32 %d, %s0, %s1", 32, {32, 32}, operands_of({32, 32}),
                      [](auto a, auto b, auto, auto) { return a <= b ? 0xffffffffu : 0u; });
    check_instruction(
        "set.le.f32.s32 %d, %s0, %s1", 32, {32, 32}, operands_of({32, 32}),
        [](auto a, auto b, auto, auto) { return sign_extended(a, 32) <= sign_extended(b, 32) ? bits_of(1.0f) : 0; });
}

BOOST_AUTO_TEST_CASE(selections) {
    for (const unsigned w : {16u, 32u, 64u}) {
        check_instruction("selp.b" + std::to_string(w) + " %d, %s0, %s1, %s2", w, {w, w, 1}, operands_of({w, w, 1}),
                          [](auto a, auto b, auto c, auto) { return c ? a : b; });
        check_instruction("selp.b" + std::to_string(w) + " %d, %s0, %s1, !%s2", w, {w, w, 1}, operands_of({w, w, 1}),
                          [](auto a, auto b, auto c, auto) { return c ? b : a; });
    }
    check_instruction("slct.b32.s32 %d, %s0, %s1, %s2", 32, {32, 32, 32}, operands_of({32, 32, 32}),
                      [](auto a, auto b, auto c, auto) { return c < 0x80000000u ? a : b; });
    check_instruction("slct.f32.f32 %d, %s0, %s1, %s2", 32, {32, 32, 32}, floats_of(3),
                      [](auto a, auto b, auto c, auto) { return as_float(c) >= 0 ? a : b; });
}

BOOST_AUTO_TEST_CASE(moves) {
    check_instruction("mov.b32 %d, {%s0, %s1}", 32, {16, 16}, operands_of({16, 16}),
                      [](auto a, auto b, auto, auto) { return a | b << 16; });
    check_instruction("mov.b64 %d, {%s0, %s1}", 64, {32, 32}, operands_of({32, 32}),
                      [](auto a, auto b, auto, auto) { return a | b << 32; });
    check_instruction("mov.b64 %d, {%s0, %s1, %s2, %s3}", 64, {16, 16, 16, 16}, operands_of({16, 16, 16, 16}),
                      [](auto a, auto b, auto c, auto d) { return a | b << 16 | c << 32 | d << 48; });
    check_instruction("{ .reg .b16 %x; mov.b32 {%x, %d}, %s0; }", 16, {32}, operands_of({32}),
                      [](auto a, auto, auto, auto) { return a >> 16; });
    check_instruction("{ .reg .b32 %x; mov.b64 {%d, %x}, %s0; }", 32, {64}, operands_of({64}),
                      [](auto a, auto, auto, auto) { return a; });
    check_instruction("mov.b64 {_, %d}, %s0", 32, {64}, operands_of({64}),
                      [](auto a, auto, auto, auto) { return a >> 32; });
    check_instruction("mov.pred %d, %s0", 1, {1}, operands_of({1}, 0), [](auto a, auto, auto, auto) { return a; });
    check_instruction("mov.b32 %d, 0x1234", 32, {32}, operands_of({32}), [](auto, auto, auto, auto) { return 0x1234; });
    check_instruction("mov.f32 %d, 0f3FC00000", 32, {32}, operands_of({32}),
                      [](auto, auto, auto, auto) { return bits_of(1.5f); });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
