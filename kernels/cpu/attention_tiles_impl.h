// The inner steps of attention, written once for any vector width: Simd is Avx2 or Avx512. Only attention_avx2.cpp
// and attention_avx512.cpp include this file. Everything is a template on Simd, so that the linker can never take
// code for one instruction set in place of the other.
#pragma once

#include "kernels/cpu/attention_tiles.h"

namespace longlora::cpu {

enum class Update { overwrite, accumulate, rescale };

/// A matrix whose single elements are broadcast to vectors. Element (m, d) is p[m * stride + d], or p[d * stride + m]
/// if it is transposed.
struct Broadcast {
    const float* p;
    std::int64_t stride;
};

/// Multiplies a (kRowTile, depth) and b (depth, kVectors * lanes) into c:
///     overwrite:  c = scale * a b
///     accumulate: c = c + a b
///     rescale:    c = c * factor + a b, with one factor per column.
template <class Simd, int kVectors, Update kUpdate, bool kTransposed>
inline __attribute__((always_inline)) void multiply_tile(float* c, std::int64_t ldc, Broadcast a, const float* b,
                                                         std::int64_t ldb, std::int64_t depth, float scale,
                                                         const float* factor) {
    using V = typename Simd::Vector;
    constexpr int kRows = Simd::kRowTile;
    V sum[kRows][kVectors];
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 3
        for (int n = 0; n < kVectors; ++n) {
            if constexpr (kUpdate == Update::overwrite) sum[m][n] = Simd::zero();
            if constexpr (kUpdate == Update::accumulate) sum[m][n] = Simd::load(c + m * ldc + n * Simd::kLanes);
            if constexpr (kUpdate == Update::rescale)
                sum[m][n] =
                    Simd::mul(Simd::load(c + m * ldc + n * Simd::kLanes), Simd::load(factor + n * Simd::kLanes));
        }
    }
    for (std::int64_t d = 0; d < depth; ++d) {
        V right[kVectors];
#pragma GCC unroll 3
        for (int n = 0; n < kVectors; ++n) right[n] = Simd::load(b + d * ldb + n * Simd::kLanes);
#pragma GCC unroll 8
        for (int m = 0; m < kRows; ++m) {
            const V left = Simd::broadcast(kTransposed ? a.p[d * a.stride + m] : a.p[m * a.stride + d]);
#pragma GCC unroll 3
            for (int n = 0; n < kVectors; ++n) sum[m][n] = Simd::fma(left, right[n], sum[m][n]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 3
        for (int n = 0; n < kVectors; ++n) {
            Simd::store(c + m * ldc + n * Simd::kLanes,
                        kUpdate == Update::overwrite ? Simd::mul(sum[m][n], Simd::broadcast(scale)) : sum[m][n]);
        }
    }
}

template <class Simd, int kVectors, Update kUpdate, bool kTransposed>
void multiply_columns(float* c, std::int64_t ldc, Broadcast a, const float* b, std::int64_t ldb, std::int64_t rows,
                      std::int64_t depth, float scale, const float* factor) {
    for (std::int64_t m = 0; m < rows; m += Simd::kRowTile) {
        const Broadcast part{a.p + (kTransposed ? m : m * a.stride), a.stride};
        multiply_tile<Simd, kVectors, kUpdate, kTransposed>(c + m * ldc, ldc, part, b, ldb, depth, scale, factor);
    }
}

/// Like multiply_tile for `rows` rows (a multiple of kRowTile) and vectors * lanes columns. Goes over three vectors
/// of columns at a time, or over two where this divides better.
template <class Simd, Update kUpdate, bool kTransposed>
void multiply(float* c, std::int64_t ldc, Broadcast a, const float* b, std::int64_t ldb, std::int64_t rows,
              std::int64_t vectors, std::int64_t depth, float scale, const float* factor) {
    while (vectors > 0) {
        const int now = vectors == 1 ? 1 : vectors == 2 || vectors == 4 ? 2 : 3;
        if (now == 3) multiply_columns<Simd, 3, kUpdate, kTransposed>(c, ldc, a, b, ldb, rows, depth, scale, factor);
        if (now == 2) multiply_columns<Simd, 2, kUpdate, kTransposed>(c, ldc, a, b, ldb, rows, depth, scale, factor);
        if (now == 1) multiply_columns<Simd, 1, kUpdate, kTransposed>(c, ldc, a, b, ldb, rows, depth, scale, factor);
        vectors -= now;
        c += now * Simd::kLanes;
        b += now * Simd::kLanes;
    }
}

/// Sets the scores of invisible pairs (key, lane) in rows [lo, hi) to -inf.
template <class Simd> void hide_keys(const ForwardTile& t, std::int64_t lo, std::int64_t hi) {
    const auto hidden = Simd::broadcast(-__builtin_inff());
    for (std::int64_t r = lo; r < hi; ++r) {
        const auto key = Simd::broadcast(t.key_begin + static_cast<std::int32_t>(r));
        for (int n = 0; n < 3; ++n) {
            float* s = t.s + (r * 3 + n) * Simd::kLanes;
            Simd::store(s, Simd::select_between(Simd::load(t.first_key + n * Simd::kLanes), key,
                                                Simd::load(t.token + n * Simd::kLanes), Simd::load(s), hidden));
        }
    }
}

/// Turns s into exp2(s - max) with the new max, and updates max and sum. The caller must multiply earlier results by
/// factor (panel).
template <class Simd> void softmax_step(const ForwardTile& t, float* factor) {
    using V = typename Simd::Vector;
    constexpr std::int64_t kPanel = 3 * Simd::kLanes;
    V old_max[3], new_max[3], sum[3];
#pragma GCC unroll 3
    for (int n = 0; n < 3; ++n) new_max[n] = old_max[n] = Simd::load(t.max + n * Simd::kLanes);
    for (std::int64_t r = t.lo; r < t.hi; ++r) {
#pragma GCC unroll 3
        for (int n = 0; n < 3; ++n) new_max[n] = Simd::max(new_max[n], Simd::load(t.s + r * kPanel + n * Simd::kLanes));
    }
#pragma GCC unroll 3
    for (int n = 0; n < 3; ++n) {
        Simd::store(t.max + n * Simd::kLanes, new_max[n]);
        new_max[n] = Simd::finite_or_zero(new_max[n]);  // a lane that has seen no key: exp2(-inf - 0) = 0, not NaN
        const V change = Simd::exp2(Simd::sub(old_max[n], new_max[n]));
        Simd::store(factor + n * Simd::kLanes, change);
        sum[n] = Simd::mul(Simd::load(t.sum + n * Simd::kLanes), change);
    }
    for (std::int64_t r = t.lo; r < t.hi; ++r) {
#pragma GCC unroll 3
        for (int n = 0; n < 3; ++n) {
            float* s = t.s + r * kPanel + n * Simd::kLanes;
            const V p = Simd::exp2(Simd::sub(Simd::load(s), new_max[n]));
            Simd::store(s, p);
            sum[n] = Simd::add(sum[n], p);
        }
    }
#pragma GCC unroll 3
    for (int n = 0; n < 3; ++n) Simd::store(t.sum + n * Simd::kLanes, sum[n]);
}

template <class Simd> void forward_tile(const ForwardTile& t) {
    constexpr std::int64_t kPanel = 3 * Simd::kLanes;
    const std::int64_t lo8 = t.lo / 8 * 8, hi8 = (t.hi + 7) / 8 * 8, head8 = (t.head_dim + 7) / 8 * 8;
    multiply<Simd, Update::overwrite, false>(t.s + lo8 * kPanel, kPanel, {t.k + lo8 * t.k_stride, t.k_stride}, t.q_t,
                                             kPanel, hi8 - lo8, 3, t.head_dim, t.scale, nullptr);
    const bool any_full = t.full_lo < t.full_hi;
    hide_keys<Simd>(t, t.lo, any_full ? t.full_lo : t.hi);
    if (any_full) hide_keys<Simd>(t, t.full_hi, t.hi);
    alignas(64) float factor[kPanel];
    softmax_step<Simd>(t, factor);
    multiply<Simd, Update::rescale, true>(t.o_t, kPanel, {t.v + t.lo * t.v_stride, t.v_stride}, t.s + t.lo * kPanel,
                                          kPanel, head8, 3, t.hi - t.lo, 1, factor);
}

/// Rows [lo, hi): p = exp2(s - lse) and ds = scale * p * (dp - delta), both 0 for invisible pairs. On entry p holds
/// s, and ds holds dp.
template <class Simd, bool kHide> void gradient_rows(const BackwardTile& t, std::int64_t lo, std::int64_t hi) {
    using V = typename Simd::Vector;
    const V scale = Simd::broadcast(t.scale), zero = Simd::zero();
    for (std::int64_t r = lo; r < hi; ++r) {
        const V lse = Simd::broadcast(t.lse[r]), delta = Simd::broadcast(t.delta[r]);
#pragma GCC unroll 3
        for (int n = 0; n < 3; ++n) {
            float *at_p = t.p + (r * 3 + n) * Simd::kLanes, *at_ds = t.ds + (r * 3 + n) * Simd::kLanes;
            V p = Simd::exp2(Simd::sub(Simd::load(at_p), lse));
            V ds = Simd::mul(Simd::mul(p, scale), Simd::sub(Simd::load(at_ds), delta));
            if constexpr (kHide) {
                const auto first = Simd::broadcast(t.first_key[r]), key = Simd::load(t.key + n * Simd::kLanes),
                           token = Simd::broadcast(t.token_begin + static_cast<std::int32_t>(r));
                p = Simd::select_between(first, key, token, p, zero);
                ds = Simd::select_between(first, key, token, ds, zero);
            }
            Simd::store(at_p, p);
            Simd::store(at_ds, ds);
        }
    }
}

template <class Simd> void clear_rows(float* p, std::int64_t lo, std::int64_t hi) {
    for (std::int64_t i = lo * 3; i < hi * 3; ++i) Simd::store(p + i * Simd::kLanes, Simd::zero());
}

template <class Simd> void backward_tile(const BackwardTile& t) {
    constexpr std::int64_t kPanel = 3 * Simd::kLanes;
    const std::int64_t lo8 = t.lo / 8 * 8, hi8 = (t.hi + 7) / 8 * 8, vectors = t.width / Simd::kLanes;
    multiply<Simd, Update::overwrite, false>(t.p + lo8 * kPanel, kPanel, {t.q + lo8 * t.q_stride, t.q_stride}, t.k_t,
                                             kPanel, hi8 - lo8, 3, t.head_dim, t.score_scale, nullptr);
    multiply<Simd, Update::overwrite, false>(t.ds + lo8 * kPanel, kPanel,
                                             {t.d_out + lo8 * t.d_out_stride, t.d_out_stride}, t.v_t, kPanel, hi8 - lo8,
                                             3, t.head_dim, 1, nullptr);
    if (t.full_lo < t.full_hi) {
        gradient_rows<Simd, true>(t, t.lo, t.full_lo);
        gradient_rows<Simd, false>(t, t.full_lo, t.full_hi);
        gradient_rows<Simd, true>(t, t.full_hi, t.hi);
    } else {
        gradient_rows<Simd, true>(t, t.lo, t.hi);
    }
    const float *p = t.p + t.lo * kPanel, *ds = t.ds + t.lo * kPanel;
    if (t.d_v) {
        multiply<Simd, Update::accumulate, true>(t.d_v, t.width, {p, kPanel}, t.d_out + t.lo * t.d_out_stride,
                                                 t.d_out_stride, kPanel, vectors, t.hi - t.lo, 1, nullptr);
        multiply<Simd, Update::accumulate, true>(t.d_k, t.width, {ds, kPanel}, t.q + t.lo * t.q_stride, t.q_stride,
                                                 kPanel, vectors, t.hi - t.lo, 1, nullptr);
    }
    if (t.d_q) {
        clear_rows<Simd>(t.ds, lo8, t.lo);
        clear_rows<Simd>(t.ds, t.hi, hi8);
        multiply<Simd, Update::accumulate, false>(t.d_q + lo8 * t.width, t.width, {t.ds + lo8 * kPanel, kPanel}, t.k,
                                                  t.width, hi8 - lo8, vectors, kPanel, 1, nullptr);
    }
}

}  // namespace longlora::cpu
