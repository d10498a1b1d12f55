// Tensor-core instructions: mma.sync of 16-bit operands with f32 and f16 sums, and of tf32 operands. mma of bytes is in
// matrix_integer.cpp, wmma in wmma.cpp. Fragments are laid out as in the tables of the PTX ISA, with g = lane / 4 and
// t = lane % 4. "2t.." means 2t and 2t + 1:
//
//   m16n8k16, 16 bits   A: a0 (g, 2t..), a1 (g+8, 2t..), a2 (g, 2t+8..), a3 (g+8, 2t+8..)
//                       B: b0 (k = 2t.., n = g), b1 (k = 2t+8.., n = g)
//   m16n8k8, 16 bits    A: a0 (g, 2t..), a1 (g+8, 2t..)
//                       B: b0 (k = 2t.., n = g)
//   m16n8k8, tf32       A: a0 (g, t), a1 (g+8, t), a2 (g, t+4), a3 (g+8, t+4)
//                       B: b0 (k = t, n = g), b1 (k = t+4, n = g)
//   m16n8k4, tf32       A: a0 (g, t), a1 (g+8, t)
//                       B: b0 (k = t, n = g)
//   all of them         C, D: c0, c1 (g, 2t..), c2, c3 (g+8, 2t..)
//
// A sum is made in f32, one product after another, fused. The GPU's own order and rounding are not known, and its
// results differ in the last bits.
#include <immintrin.h>

#include "sim/ptx/float_bits.h"
#include "sim/ptx/lanes.h"
#include "sim/ptx/matrix.h"

namespace sim::ptx {

namespace {

/// `even` holds columns 0, 2, 4, 6 and `odd` columns 1, 3, 5, 7 of a row of 8. interleaved joins them; put_apart
/// separates them.
__m256 interleaved(const float* even, const float* odd) {
    const __m128 e = _mm_loadu_ps(even), o = _mm_loadu_ps(odd);
    return _mm256_set_m128(_mm_unpackhi_ps(e, o), _mm_unpacklo_ps(e, o));
}
void put_apart(__m256 x, float* even, float* odd) {
    x = _mm256_blendv_ps(x, _mm256_set1_ps(kNan32), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m128 low = _mm256_castps256_ps128(x), high = _mm256_extractf128_ps(x, 1);
    _mm_storeu_ps(even, _mm_shuffle_ps(low, high, 0x88));
    _mm_storeu_ps(odd, _mm_shuffle_ps(low, high, 0xdd));
}

/// Widens 8 halves to f32.
struct WidenBf16 {
    static __m256 f(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }
};
struct WidenF16 {
    static __m256 f(__m128i x) { return _mm256_cvtph_ps(x); }
};

/// Transposes 8 x 8 halves.
void transpose(__m128i (&m)[8]) {
    __m128i s[8], t[8];
    for (unsigned k = 0; k < 4; ++k)
        s[2 * k] = _mm_unpacklo_epi16(m[k], m[k + 4]), s[2 * k + 1] = _mm_unpackhi_epi16(m[k], m[k + 4]);
    for (unsigned k = 0; k < 4; ++k)
        t[2 * k] = _mm_unpacklo_epi16(s[k], s[k + 4]), t[2 * k + 1] = _mm_unpackhi_epi16(s[k], s[k + 4]);
    for (unsigned k = 0; k < 4; ++k)
        m[2 * k] = _mm_unpacklo_epi16(t[k], t[k + 4]), m[2 * k + 1] = _mm_unpackhi_epi16(t[k], t[k + 4]);
}

/// The rows of D, A, B and C, which follow one another in Kernel::lists.
struct Fragments {
    const Row *d, *a, *b, *c;
};

void require_written(Warp& warp, const Row* rows, unsigned number) {
    for (unsigned k = 0; k < number; ++k)
        if (const Lanes unknown = ~written(row<std::uint32_t>(warp, rows[k])))
            fault(warp, unknown, "a fragment was never written");
}

float tf32(std::uint32_t x) { return std::bit_cast<float>(x & 0xffffe000u); }

/// Copies fragments of 16-bit elements into matrices: a[row][k], b[k][n]. In memory the 32 words of a fragment of A are
/// the rows of 8 x 8 halves; those of B are its columns.
template <class Widen, unsigned depth>
void gather_halves(Warp& warp, const Fragments& f, float (&a)[16][depth], float (&b)[depth][8]) {
    for (unsigned e = 0; e < depth / 4; ++e) {
        const auto* fragment = row<__m128i>(warp, f.a[e]);
        for (unsigned r = 0; r < 8; ++r)
            _mm256_store_ps(&a[r + (e % 2) * 8][(e / 2) * 8], Widen::f(_mm_loadu_si128(fragment + r)));
    }
    for (unsigned e = 0; e < depth / 8; ++e) {
        const auto* fragment = row<__m128i>(warp, f.b[e]);
        __m128i columns[8];
        for (unsigned n = 0; n < 8; ++n) columns[n] = _mm_loadu_si128(fragment + n);
        transpose(columns);
        for (unsigned k = 0; k < 8; ++k) _mm256_store_ps(b[8 * e + k], Widen::f(columns[k]));
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

/// One row of d = a b + c: `sum` is the row of c, `a` the row of a, and b is depth x 8.
template <unsigned depth> __m256 add_products(__m256 sum, const float (&a)[depth], const float (&b)[depth][8]) {
    for (unsigned k = 0; k < depth; ++k) sum = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[k]), _mm256_load_ps(b[k]), sum);
    return sum;
}

/// d = a b + c with c and d of f16, rounded once. Registers 0 and 1 hold rows 0 to 7 and 8 to 15, in the layout of
/// memory.
template <unsigned depth>
void multiply_f16(Warp& warp, const Fragments& f, const float (&a)[16][depth], const float (&b)[depth][8]) {
    for (unsigned half = 0; half < 2; ++half) {
        const __m128i* c = row<__m128i>(warp, f.c[half]);
        __m128i result[8];
        for (unsigned r = 0; r < 8; ++r) {
            __m256 sum = add_products<depth>(_mm256_cvtph_ps(_mm_loadu_si128(c + r)), a[8 * half + r], b);
            sum = _mm256_blendv_ps(sum, _mm256_set1_ps(kNan32), _mm256_cmp_ps(sum, sum, _CMP_UNORD_Q));
            result[r] = _mm256_cvtps_ph(sum, _MM_FROUND_TO_NEAREST_INT);
        }
        auto* d = row<__m128i>(warp, f.d[half]);
        for (unsigned r = 0; r < 8; ++r) _mm_storeu_si128(d + r, result[r]);
        mark(d, kAll, kAll);
    }
}

template <unsigned depth>
void multiply(Warp& warp, const Fragments& f, const float (&a)[16][depth], const float (&b)[depth][8]) {
    for (unsigned half = 0; half < 2; ++half) {  // rows 0 to 7 and 8 to 15: registers 0, 1 and 2, 3 of C and D
        const float *even = row<float>(warp, f.c[2 * half]), *odd = row<float>(warp, f.c[2 * half + 1]);
        __m256 sum[8];
        for (unsigned r = 0; r < 8; ++r) sum[r] = interleaved(even + 4 * r, odd + 4 * r);
        for (unsigned k = 0; k < depth; ++k) {
            const __m256 line = _mm256_load_ps(b[k]);
            for (unsigned r = 0; r < 8; ++r)
                sum[r] = _mm256_fmadd_ps(_mm256_broadcast_ss(&a[8 * half + r][k]), line, sum[r]);
        }
        float *to_even = row<float>(warp, f.d[2 * half]), *to_odd = row<float>(warp, f.d[2 * half + 1]);
        for (unsigned r = 0; r < 8; ++r) put_apart(sum[r], to_even + 4 * r, to_odd + 4 * r);
        mark(to_even, kAll, kAll);
        mark(to_odd, kAll, kAll);
    }
}

enum class Element : std::uint8_t { bf16, f16, tf32 };

template <Element element, unsigned depth, bool f16_sums = false> void mma(Warp& warp, const Instruction& i, Lanes) {
    const Row* lists = &warp.block->kernel->lists[i.list];
    constexpr unsigned kA = element == Element::tf32 ? depth / 2 : depth / 4, kB = kA / 2;
    constexpr unsigned kC = f16_sums ? 2 : 4;
    const Fragments f{lists, lists + kC, lists + kC + kA, lists + kC + kA + kB};
    require_written(warp, f.a, kA + kB + kC);
    alignas(32) float a[16][depth], b[depth][8];
    if constexpr (element == Element::tf32) gather_tf32<depth>(warp, f, a, b);
    else if constexpr (element == Element::bf16) gather_halves<WidenBf16, depth>(warp, f, a, b);
    else gather_halves<WidenF16, depth>(warp, f, a, b);
    if constexpr (f16_sums) multiply_f16<depth>(warp, f, a, b);
    else multiply<depth>(warp, f, a, b);
}

Handler multiplier(const Decoder& d, std::string_view shape, Type type, Type sum) {
    if (sum == Type::f16) {
        if (shape == "m16n8k16" && type == Type::f16) return &mma<Element::f16, 16, true>;
        if (shape == "m16n8k8" && type == Type::f16) return &mma<Element::f16, 8, true>;
        d.fail("mma of this shape and type is not known");
    }
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
    const std::string_view shape = d.take_any({"m16n8k32", "m16n8k16", "m16n8k8", "m16n8k4"});
    if (!d.take("row") || !d.take("col")) d.fail("mma is known as .row.col only");
    const Type sum = d.need_type(), a = d.need_type(), b = d.need_type(), c = d.need_type();
    if (sum == Type::s32 && c == Type::s32) return decode_integer_mma(d, shape, a, b);
    if ((sum != Type::f32 && sum != Type::f16) || c != sum || a != b) d.fail("mma of these types is not known");
    d.out.run = multiplier(d, shape, a, sum);
    d.out.control = Control::collective;
    d.expect_operands(4);
    const unsigned depth = shape == "m16n8k16"  ? 16
                           : shape == "m16n8k8" ? 8
                                                : 4,
                   rows_a = a == Type::tf32 ? depth / 2 : depth / 4;
    const std::size_t rows_c = sum == Type::f16 ? 2 : 4, expected[] = {rows_c, rows_a, rows_a / 2, rows_c};
    std::vector<Row> all;
    for (std::size_t k = 0; k < 4; ++k) {
        const std::vector<Row> rows =
            d.rows(d.operands[k], (k == 0 || k == 3) && sum == Type::f32 ? Type::f32 : Type::b32, k == 0);
        if (rows.size() != expected[k]) d.fail("a fragment has too few or too many registers");
        all.insert(all.end(), rows.begin(), rows.end());
    }
    d.out.list = d.list(all);
}

}  // namespace

void add_matrix_operations(Operations& operations) {
    operations["mma"] = &decode_mma;
    add_ldmatrix_operations(operations);
    add_wmma_operations(operations);
}

}  // namespace sim::ptx
