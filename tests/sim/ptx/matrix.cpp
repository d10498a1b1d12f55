// Tensor-core instructions: mma.sync of 16-bit and tf32 operands with f32 sums, ldmatrix. Fragments are laid out as the PTX ISA's tables say; with g = lane / 4, t = lane % 4:
//   m16n8k16, 16 bits  A: a0 (g, 2t..), a1 (g+8, 2t..), a2 (g, 2t+8..), a3 (g+8, 2t+8..); B: b0 (k = 2t.., n = g), b1 (k = 2t+8..); C: c0,c1 (g, 2t..), c2,c3 (g+8, 2t..)
//   m16n8k8, 16 bits   A: a0 (g, 2t..), a1 (g+8, 2t..); B: b0 (k = 2t.., g)          m16n8k8, tf32   A: (g, t), (g+8, t), (g, t+4), (g+8, t+4); B: (t, g), (t+4, g)
//   m16n8k4, tf32      A: a0 (g, t), a1 (g+8, t); B: b0 (t, g)
// A sum is made in f32, one product after another, fused; the GPU's own order and rounding are not known and differ in the last bits.
#include <cstring>

#include "sim/ptx/float_bits.h"
#include "sim/ptx/lanes.h"
#include "sim/ptx/matrix.h"

namespace sim::ptx {

namespace {

/// Rows of A, B, C and D follow one another in Kernel::lists.
struct Fragments {
    const Row *d, *a, *b, *c;
};

void require_written(Warp& warp, const Row* rows, unsigned number) {
    for (unsigned k = 0; k < number; ++k)
        if (const Lanes unknown = ~written(row<std::uint32_t>(warp, rows[k]))) fault(warp, unknown, "a fragment was never written");
}

template <class F>
float low_half(std::uint32_t x) { return F::widen(static_cast<std::uint16_t>(x)); }
template <class F>
float high_half(std::uint32_t x) { return F::widen(static_cast<std::uint16_t>(x >> 16)); }

float tf32(std::uint32_t x) { return std::bit_cast<float>(x & 0xffffe000u); }

/// Fragments of 16-bit elements into matrices: a[row][k], b[k][n].
template <class F, unsigned depth>
void gather_halves(Warp& warp, const Fragments& f, float (&a)[16][depth], float (&b)[depth][8]) {
    for (unsigned e = 0; e < depth / 4; ++e) {
        const std::uint32_t* fragment = row<std::uint32_t>(warp, f.a[e]);
        for (unsigned l = 0; l < kLanes; ++l) {
            float* to = &a[l / 4 + (e % 2) * 8][2 * (l % 4) + (e / 2) * 8];
            to[0] = low_half<F>(fragment[l]), to[1] = high_half<F>(fragment[l]);
        }
    }
    for (unsigned e = 0; e < depth / 8; ++e) {
        const std::uint32_t* fragment = row<std::uint32_t>(warp, f.b[e]);
        for (unsigned l = 0; l < kLanes; ++l) {
            const unsigned k = 2 * (l % 4) + e * 8;
            b[k][l / 4] = low_half<F>(fragment[l]), b[k + 1][l / 4] = high_half<F>(fragment[l]);
        }
    }
}

template <unsigned depth>
void gather_tf32(Warp& warp, const Fragments& f, float (&a)[16][depth], float (&b)[depth][8]) {
    for (unsigned e = 0; e < depth / 2; ++e) {
        const std::uint32_t* fragment = row<std::uint32_t>(warp, f.a[e]);
        for (unsigned l = 0; l < kLanes; ++l) a[l / 4 + (e % 2) * 8][l % 4 + (e / 2) * 4] = tf32(fragment[l]);
    }
    for (unsigned e = 0; e < depth / 4; ++e) {
        const std::uint32_t* fragment = row<std::uint32_t>(warp, f.b[e]);
        for (unsigned l = 0; l < kLanes; ++l) b[l % 4 + e * 4][l / 4] = tf32(fragment[l]);
    }
}

template <unsigned depth>
void multiply(Warp& warp, const Fragments& f, const float (&a)[16][depth], const float (&b)[depth][8]) {
    const float* c[4];
    for (unsigned e = 0; e < 4; ++e) c[e] = row<float>(warp, f.c[e]);
    float sum[16][8];
    for (unsigned l = 0; l < kLanes; ++l)
        for (unsigned e = 0; e < 4; ++e) sum[l / 4 + (e / 2) * 8][2 * (l % 4) + e % 2] = c[e][l];
    for (unsigned r = 0; r < 16; ++r) {
        float line[8];
        for (unsigned n = 0; n < 8; ++n) line[n] = sum[r][n];
        for (unsigned k = 0; k < depth; ++k) {
            const float factor = a[r][k];
#pragma omp simd
            for (unsigned n = 0; n < 8; ++n) line[n] = std::fma(factor, b[k][n], line[n]);
        }
        for (unsigned n = 0; n < 8; ++n) sum[r][n] = line[n];
    }
    for (unsigned e = 0; e < 4; ++e) {
        float* d = row<float>(warp, f.d[e]);
        for (unsigned l = 0; l < kLanes; ++l) d[l] = canonical(sum[l / 4 + (e / 2) * 8][2 * (l % 4) + e % 2]);
        mark(d, kAll, kAll);
    }
}

enum class Element : std::uint8_t { bf16, f16, tf32 };

template <Element element, unsigned depth>
void mma(Warp& warp, const Instruction& i, Lanes) {
    const Row* lists = &warp.block->kernel->lists[i.list];
    constexpr unsigned kA = element == Element::tf32 ? depth / 2 : depth / 4, kB = kA / 2;
    const Fragments f{lists, lists + 4, lists + 4 + kA, lists + 4 + kA + kB};
    require_written(warp, f.a, kA + kB + 4);
    alignas(32) float a[16][depth], b[depth][8];
    if constexpr (element == Element::tf32)
        gather_tf32<depth>(warp, f, a, b);
    else if constexpr (element == Element::bf16)
        gather_halves<Bf16, depth>(warp, f, a, b);
    else
        gather_halves<F16, depth>(warp, f, a, b);
    multiply<depth>(warp, f, a, b);
}

Handler multiplier(const Decoder& d, std::string_view shape, Type type) {
    if (shape == "m16n8k16" && type == Type::bf16) return &mma<Element::bf16, 16>;
    if (shape == "m16n8k16" && type == Type::f16) return &mma<Element::f16, 16>;
    if (shape == "m16n8k8" && type == Type::bf16) return &mma<Element::bf16, 8>;
    if (shape == "m16n8k8" && type == Type::f16) return &mma<Element::f16, 8>;
    if (shape == "m16n8k8" && type == Type::tf32) return &mma<Element::tf32, 8>;
    if (shape == "m16n8k4" && type == Type::tf32) return &mma<Element::tf32, 4>;
    d.fail("mma of this shape and type is not known");
}

void decode_mma(Decoder& d) {
    if (!d.take("sync") || !d.take("aligned")) d.fail("mma needs .sync.aligned");
    const std::string_view shape = d.take_any({"m16n8k16", "m16n8k8", "m16n8k4"});
    if (!d.take("row") || !d.take("col")) d.fail("mma is known as .row.col only");
    const Type sum = d.need_type(), a = d.need_type(), b = d.need_type(), c = d.need_type();
    if (sum != Type::f32 || c != Type::f32 || a != b) d.fail("mma of these types is not known");
    d.out.run = multiplier(d, shape, a);
    d.out.control = Control::collective;
    d.expect_operands(4);
    const unsigned depth = shape == "m16n8k16" ? 16 : shape == "m16n8k8" ? 8 : 4, rows_a = a == Type::tf32 ? depth / 2 : depth / 4;
    const std::size_t expected[] = {4, rows_a, rows_a / 2, 4};
    std::vector<Row> all;
    for (std::size_t k = 0; k < 4; ++k) {
        const std::vector<Row> rows = d.rows(d.operands[k], k == 0 || k == 3 ? Type::f32 : Type::b32, k == 0);
        if (rows.size() != expected[k]) d.fail("a fragment has too few or too many registers");
        all.insert(all.end(), rows.begin(), rows.end());
    }
    d.out.list = d.list(all);
}

}  // namespace

void add_matrix_operations(Operations& operations) {
    operations["mma"] = &decode_mma;
    add_ldmatrix_operations(operations);
}

}  // namespace sim::ptx
