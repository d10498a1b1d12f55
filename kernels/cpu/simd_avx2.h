// Vectors of eight floats: the operations of the tile kernels in AVX2 and FMA. simd_avx512.h has the same for 16
// floats.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace longlora::cpu {

struct Avx2 {
    using Vector = __m256;
    using Integers = __m256i;
    static constexpr int kLanes = 8;
    static constexpr int kRowTile = 4;  ///< 4 x 3 sums, 3 columns and 1 broadcast use all 16 registers

    static inline Vector load(const float* p) { return _mm256_loadu_ps(p); }
    static inline void store(float* p, Vector x) { _mm256_storeu_ps(p, x); }
    static inline Vector broadcast(float x) { return _mm256_set1_ps(x); }
    static inline Vector zero() { return _mm256_setzero_ps(); }
    static inline Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
    static inline Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
    static inline Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
    static inline Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
    static inline Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }

    static inline Integers load(const std::int32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static inline Integers broadcast(std::int32_t x) { return _mm256_set1_epi32(x); }
    /// (low <= x && x <= high) ? value : otherwise
    static inline Vector select_between(Integers low, Integers x, Integers high, Vector value, Vector otherwise) {
        const Integers outside = _mm256_or_si256(_mm256_cmpgt_epi32(low, x), _mm256_cmpgt_epi32(x, high));
        return _mm256_blendv_ps(value, otherwise, _mm256_castsi256_ps(outside));
    }
    /// x == -inf ? 0 : x
    static inline Vector finite_or_zero(Vector x) {
        return _mm256_and_ps(x, _mm256_cmp_ps(x, _mm256_set1_ps(-__builtin_inff()), _CMP_NEQ_UQ));
    }
    /// 2^x with a relative error of about 1e-7; exactly 0 below 2^-126 and for -inf; NaN stays NaN; at most 2^127.
    static inline Vector exp2(Vector x) {
        const Vector keep = _mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ);
        x = _mm256_min_ps(_mm256_set1_ps(127.0f), x);  // if the second operand is NaN, min returns it
        const Vector n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const Vector r = _mm256_sub_ps(x, n);
        Vector p = _mm256_fmadd_ps(_mm256_set1_ps(1.54614447e-4f), r, _mm256_set1_ps(1.340042818e-3f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(9.618056679e-3f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.550327227e-2f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(2.402265092e-1f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(6.931472067e-1f));
        p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
        const Integers exponent =
            _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
        return _mm256_and_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(exponent)), keep);
    }
};

}  // namespace longlora::cpu
