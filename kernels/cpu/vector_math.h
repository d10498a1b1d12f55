// Scalar functions that the compiler turns into AVX2 code inside of loops (exp, sigmoid, rounding), and the least
// work for which threads are used. No tensors.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "core/dtype.h"

namespace longlora::cpu {

/// e^x within 2 ulp for -87.3 <= x <= 88.3. Below that it is 0, above it stays at e^88.3, and NaN stays NaN. It has
/// no branches, so that loops over it become vector code.
inline float fast_exp(float x) {
    // kRound is 1.5 * 2^23: adding it leaves the rounded integer in the low bits.
    constexpr float kLeast = -87.3f, kMost = 88.3f, kRound = 12582912.0f;
    const float clamped = x < kLeast ? kLeast : x > kMost ? kMost : x;
    const float shifted = std::fma(clamped, 1.44269504f, kRound), n = shifted - kRound;
    // r = x - n ln 2, with ln 2 = 0.693145752 + 1.42860682e-6.
    const float r = std::fma(n, -1.42860682e-6f, std::fma(n, -0.693145752f, clamped));
    float p = 1.0f / 5040;
    p = std::fma(p, r, 1.0f / 720);
    p = std::fma(p, r, 1.0f / 120);
    p = std::fma(p, r, 1.0f / 24);
    p = std::fma(p, r, 1.0f / 6);
    p = std::fma(p, r, 0.5f);
    p = std::fma(p, r, 1.0f);
    p = std::fma(p, r, 1.0f);
    const float power = std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u);  // 2^n
    return x < kLeast ? 0.0f : p * power;
}

/// to = x, rounded. Loops use it in place of `to = bf16(x)`, since g++ 12 makes no vector code where a whole struct
/// is assigned.
inline void put(float& to, float x) { to = x; }
inline void put(bf16& to, float x) { to.bits = bf16(x).bits; }

inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

/// With fewer elements than this, waking the other threads costs more than it saves.
constexpr std::int64_t kParallelElements = 1 << 14;

}  // namespace longlora::cpu
