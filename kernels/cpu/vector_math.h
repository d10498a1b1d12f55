// Scalar functions and row loops written so that the compiler turns them into AVX2 code: exp, sigmoid, fixed chunks of
// work. No tensors.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "core/dtype.h"

namespace longlora::cpu {

/// e^x within 2 ulp for -87.3 <= x <= 88.3; below that 0, above it stays at e^88.3; NaN stays NaN. No branches: loops
/// over it become vector code.
inline float fast_exp(float x) {
    constexpr float kLeast = -87.3f, kMost = 88.3f,
                    kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
    const float clamped = x < kLeast ? kLeast : x > kMost ? kMost : x;
    const float shifted = std::fma(clamped, 1.44269504f, kRound), n = shifted - kRound;
    const float r = std::fma(n, -1.42860682e-6f,
                             std::fma(n, -0.693145752f, clamped));  // x - n ln 2, ln 2 = 0.693145752 + 1.42860682e-6
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

/// to = x, rounded. In loops rather than `to = bf16(x)`: assigning the struct as a whole keeps g++ 12 from vector code.
inline void put(float& to, float x) { to = x; }
inline void put(bf16& to, float x) { to.bits = bf16(x).bits; }

inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

/// Work below this many elements is not worth waking a team of threads.
constexpr std::int64_t kParallelElements = 1 << 14;

}  // namespace longlora::cpu
