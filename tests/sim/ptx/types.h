// Types of PTX operands: their names and widths. The C++ types that lanes are computed in are in by_type.h; no
// instruction is known here.
#pragma once

#include <cstdint>
#include <string_view>

namespace sim::ptx {

enum class Type : std::uint8_t {
    none,
    pred,
    b8,
    u8,
    s8,
    b16,
    u16,
    s16,
    f16,
    bf16,
    b32,
    u32,
    s32,
    f32,
    f16x2,
    bf16x2,
    tf32,
    b64,
    u64,
    s64,
    f64,
    b128
};

/// The type of a name without its dot; Type::none if it is not a type.
Type type_named(std::string_view name);
std::string_view name_of(Type type);

constexpr unsigned bytes_of(Type type) {
    if (type <= Type::pred) return 0;
    if (type <= Type::s8) return 1;
    if (type <= Type::bf16) return 2;
    if (type <= Type::tf32) return 4;
    return type == Type::b128 ? 16 : 8;
}

constexpr bool is_signed(Type type) {
    return type == Type::s8 || type == Type::s16 || type == Type::s32 || type == Type::s64;
}
constexpr bool is_float(Type type) {
    return type == Type::f16 || type == Type::bf16 || type == Type::f32 || type == Type::f16x2 ||
           type == Type::bf16x2 || type == Type::tf32 || type == Type::f64;
}

/// Lanes of a warp, and a set of them.
constexpr unsigned kLanes = 32;
using Lanes = std::uint32_t;
constexpr Lanes kAll = 0xffffffffu;

}  // namespace sim::ptx
