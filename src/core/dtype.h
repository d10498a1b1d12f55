// Element types: their names, their sizes, and the conversion of bfloat16 and float16 to and from float on the host.
// Arithmetic on tensors is in kernels/.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "core/error.h"

namespace longlora {

enum class DType : std::uint8_t { float32, bfloat16, float16, float64, int32, int64, uint8, uint16, uint32, uint64 };

constexpr std::int64_t size_of(DType dtype) {
    switch (dtype) {
        case DType::uint8:
            return 1;
        case DType::bfloat16:
        case DType::float16:
        case DType::uint16:
            return 2;
        case DType::float32:
        case DType::int32:
        case DType::uint32:
            return 4;
        case DType::float64:
        case DType::int64:
        case DType::uint64:
            return 8;
    }
    return 0;
}

constexpr std::string_view name_of(DType dtype) {
    constexpr std::string_view names[] = {"float32", "bfloat16", "float16", "float64", "int32",
                                          "int64",   "uint8",    "uint16",  "uint32",  "uint64"};
    return names[static_cast<int>(dtype)];
}

/// The upper half of an IEEE float. The conversion from float rounds to the nearest even value and keeps NaN a NaN.
struct bf16 {
    std::uint16_t bits = 0;
    bf16() = default;
    explicit bf16(float value) {
        const auto u = std::bit_cast<std::uint32_t>(value);
        const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
        bits = nan ? static_cast<std::uint16_t>((u >> 16) | 0x40u)
                   : static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
    operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
};

/// IEEE half precision. It occurs only in files; loading widens it to float.
struct fp16 {
    std::uint16_t bits = 0;
    operator float() const {
        const std::uint32_t sign = std::uint32_t(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u,
                            mantissa = bits & 1023u;
        if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
            const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
            return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
        }
        const std::uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
        return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
    }
};

template <class T> constexpr DType dtype_of();
template <> constexpr DType dtype_of<float>() { return DType::float32; }
template <> constexpr DType dtype_of<double>() { return DType::float64; }
template <> constexpr DType dtype_of<bf16>() { return DType::bfloat16; }
template <> constexpr DType dtype_of<fp16>() { return DType::float16; }
template <> constexpr DType dtype_of<std::int32_t>() { return DType::int32; }
template <> constexpr DType dtype_of<std::int64_t>() { return DType::int64; }
template <> constexpr DType dtype_of<std::uint8_t>() { return DType::uint8; }
template <> constexpr DType dtype_of<std::uint16_t>() { return DType::uint16; }
template <> constexpr DType dtype_of<std::uint32_t>() { return DType::uint32; }
template <> constexpr DType dtype_of<std::uint64_t>() { return DType::uint64; }

}  // namespace longlora
