// Vectors of sixteen floats: the operations of the tile kernels in AVX-512. Only files named *_avx512.cpp may include
// this file.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace longlora::cpu {

struct Avx512 {
    using Vector = __m512;
    using Integers = __m512i;
    static constexpr int kLanes = 16;
    static constexpr int kRowTile = 8;  ///< 8 x 3 sums, 3 columns and 1 broadcast use 28 of 32 registers
    /// For masked forms of intrinsics whose unmasked forms make g++ 12 warn of its own header. The code is the same.
    static constexpr __mmask16 kAll = 0xffff;

    static inline Vector load(const float* p) { return _mm512_loadu_ps(p); }
    static inline void store(float* p, Vector x) { _mm512_storeu_ps(p, x); }
    static inline Vector broadcast(float x) { return _mm512_set1_ps(x); }
    static inline Vector zero() { return _mm512_setzero_ps(); }
    static inline Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
    static inline Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
    static inline Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
    static inline Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
    static inline Vector max(Vector a, Vector b) { return _mm512_maskz_max_ps(kAll, a, b); }

    static inline Integers load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
    static inline Integers broadcast(std::int32_t x) { return _mm512_set1_epi32(x); }
    /// (low <= x && x <= high) ? value : otherwise
    static inline Vector select_between(Integers low, Integers x, Integers high, Vector value, Vector otherwise) {
        return _mm512_mask_blend_ps(_mm512_mask_cmple_epi32_mask(_mm512_cmple_epi32_mask(low, x), x, high), otherwise,
                                    value);
    }
    /// x == -inf ? 0 : x
    static inline Vector finite_or_zero(Vector x) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-__builtin_inff()), _CMP_NEQ_UQ), x);
    }
    /// 2^x with a relative error of about 1e-7; exactly 0 below 2^-126 and for -inf; NaN stays NaN. The polynomial
    /// interpolates at Chebyshev points of [-1/2, 1/2].
    static inline Vector exp2(Vector x) {
        const Vector n = _mm512_maskz_roundscale_ps(kAll, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const Vector r = _mm512_sub_ps(x, n);
        Vector p = _mm512_fmadd_ps(_mm512_set1_ps(1.54614447e-4f), r, _mm512_set1_ps(1.340042818e-3f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.618056679e-3f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.550327227e-2f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.402265092e-1f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931472067e-1f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
        return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ), p, n);
    }
};

}  // namespace longlora::cpu
