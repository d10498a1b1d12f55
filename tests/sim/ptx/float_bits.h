// Floating-point numbers as PTX defines them: flushed subnormals, saturation, the one NaN that arithmetic gives, bf16
// and f16.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace sim::ptx {

constexpr float kNan32 = std::bit_cast<float>(0x7fffffffu);
constexpr std::uint16_t kNan16 = 0x7fff;

/// Turns subnormals into zeros of the same sign (.ftz).
inline float flushed(float x) {
    return std::fabs(x) < std::numeric_limits<float>::min()
               ? std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0x80000000u)
               : x;
}
/// f32 arithmetic gives the NaN kNan32 and no other; f64 values are not changed.
inline float canonical(float x) { return x != x ? kNan32 : x; }
inline double canonical(double x) { return x; }
/// Clamps x to [0, 1]; NaN becomes 0.
template <class T> T saturated(T x) { return x > T(0) ? (x < T(1) ? x : T(1)) : T(0); }

inline float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

/// Rounds to nearest, ties to even.
inline std::uint16_t to_bf16(float x) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    return static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? kNan16 : rounded);
}

inline float from_f16(std::uint16_t bits) {
    const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16, magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | (magnitude << 13) | 0x7f800000u);
    const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;  // exact, subnormals too
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(scaled));
}

/// Rounds to nearest, ties to even.
inline std::uint16_t to_f16(float x) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x), sign = bits >> 16 & 0x8000u,
                        magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return kNan16;
    if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and more
    std::uint32_t result = 0;
    if (magnitude < 0x38800000u) {  // below 2^-14: units of 2^-24, rounded by an addition
        result =
            std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
    } else {
        result = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    }
    return static_cast<std::uint16_t>(sign | result);
}

/// a + b rounded to odd: rounding that result again to fewer bits is as good as one rounding of the exact sum.
inline double sum_to_odd(double a, double b) {
    const double sum = a + b, shadow = sum - a, error = (a - (sum - shadow)) + (b - shadow);
    std::uint64_t bits = std::bit_cast<std::uint64_t>(sum);
    if (error == 0 || !std::isfinite(sum)) return sum;
    if ((error < 0) == (sum > 0)) --bits;  // towards zero
    return std::bit_cast<double>(bits | 1);
}

/// x as f32, rounded to odd.
inline float narrow_to_odd(double x) {
    const float near = static_cast<float>(x);
    if (double(near) == x || x != x) return near;
    std::uint32_t bits = std::bit_cast<std::uint32_t>(near);
    if (std::fabs(double(near)) > std::fabs(x)) --bits;
    return std::bit_cast<float>(bits | 1);
}

/// Rounds towards zero.
inline std::uint16_t to_bf16_truncated(float x) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    return (bits & 0x7fffffffu) > 0x7f800000u ? kNan16 : static_cast<std::uint16_t>(bits >> 16);
}

/// f16 and bf16 as classes, for code that serves both.
struct F16 {
    static float widen(std::uint16_t bits) { return from_f16(bits); }
    static std::uint16_t narrow(float x) { return to_f16(x); }
};
struct Bf16 {
    static float widen(std::uint16_t bits) { return from_bf16(bits); }
    static std::uint16_t narrow(float x) { return to_bf16(x); }
};

}  // namespace sim::ptx
