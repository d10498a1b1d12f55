// mma.sync of 8-bit integers with s32 sums: m16n8k32 and m16n8k16. A register holds four bytes, with g = lane / 4 and
// t = lane % 4. "4t.." means 4t to 4t + 3:
//
//   m16n8k32   A: (g, 4t..), (g+8, 4t..), (g, 4t+16..), (g+8, 4t+16..)
//              B: (k = 4t.., n = g), (k = 4t+16.., n = g)
//   m16n8k16   A: (g, 4t..), (g+8, 4t..)
//              B: (k = 4t.., n = g)
//   both       C, D: (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
//
// Sums wrap around or, with .satfinite, stop at the ends of s32. Floating-point forms are in matrix.cpp.
#include <algorithm>

#include "sim/ptx/lanes.h"
#include "sim/ptx/matrix.h"

namespace sim::ptx {

namespace {

int byte_of(std::uint32_t word, unsigned k, bool is_signed) {
    const auto byte = static_cast<std::uint8_t>(word >> 8 * k);
    return is_signed ? static_cast<std::int8_t>(byte) : byte;
}

/// target: bit 0: a is signed; bit 1: b is signed; bit 2: sums saturate. The rows of D, A, B and C follow one another.
template <unsigned depth> void multiply_bytes(Warp& warp, const Instruction& i, Lanes) {
    constexpr unsigned kA = depth / 8, kB = depth / 16;
    const Row* rows = &warp.block->kernel->lists[i.list];
    for (unsigned k = 4; k < 8 + kA + kB; ++k)
        if (const Lanes unknown = ~written(row<std::uint32_t>(warp, rows[k])))
            fault(warp, unknown, "a fragment was never written");
    int a[16][depth], b[depth][8];
    for (unsigned l = 0; l < kLanes; ++l)
        for (unsigned k = 0; k < 4; ++k) {
            for (unsigned e = 0; e < kA; ++e)
                a[l / 4 + e % 2 * 8][l % 4 * 4 + e / 2 * 16 + k] =
                    byte_of(row<std::uint32_t>(warp, rows[4 + e])[l], k, i.target & 1);
            for (unsigned e = 0; e < kB; ++e)
                b[l % 4 * 4 + e * 16 + k][l / 4] =
                    byte_of(row<std::uint32_t>(warp, rows[4 + kA + e])[l], k, i.target & 2);
        }
    std::int32_t result[4][kLanes];
    for (unsigned e = 0; e < 4; ++e)
        for (unsigned l = 0; l < kLanes; ++l) {
            std::int64_t sum = row<std::int32_t>(warp, rows[4 + kA + kB + e])[l];
            for (unsigned k = 0; k < depth; ++k) sum += a[l / 4 + e / 2 * 8][k] * b[k][l % 4 * 2 + e % 2];
            if (i.target & 4) sum = std::clamp<std::int64_t>(sum, INT32_MIN, INT32_MAX);
            result[e][l] = static_cast<std::int32_t>(sum);
        }
    for (unsigned e = 0; e < 4; ++e) {
        auto* d = row<std::int32_t>(warp, rows[e]);
        std::copy(result[e], result[e] + kLanes, d);
        mark(d, kAll, kAll);
    }
}

}  // namespace

void decode_integer_mma(Decoder& d, std::string_view shape, Type a, Type b) {
    for (const Type type : {a, b})
        if (type != Type::s8 && type != Type::u8) d.fail("mma with s32 sums is known for 8-bit integers only");
    if (shape != "m16n8k32" && shape != "m16n8k16") d.fail("mma of this shape and type is not known");
    d.out.target = (a == Type::s8 ? 1u : 0u) | (b == Type::s8 ? 2u : 0u) | (d.take("satfinite") ? 4u : 0u);
    d.expect_operands(4);
    const std::size_t wide = shape == "m16n8k32", expected[] = {4, wide ? 4u : 2u, wide ? 2u : 1u, 4};
    std::vector<Row> all;
    for (std::size_t k = 0; k < 4; ++k) {
        const std::vector<Row> rows = d.rows(d.operands[k], Type::b32, k == 0);
        if (rows.size() != expected[k]) d.fail("a fragment has too few or too many registers");
        all.insert(all.end(), rows.begin(), rows.end());
    }
    d.out.list = d.list(all);
    d.out.run = wide ? &multiply_bytes<32> : &multiply_bytes<16>;
    d.out.control = Control::collective;
}

}  // namespace sim::ptx
