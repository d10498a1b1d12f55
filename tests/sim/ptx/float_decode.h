// Decoders of floating-point instructions whose names (add, mul, min, neg, div, mad ...) are also names of integer
// instructions. The decoders of those names call them.
#pragma once

#include "sim/ptx/decoder.h"

namespace sim::ptx {

enum class FloatBinary : std::uint8_t { add, subtract, multiply, min, max };

/// decode_float_binary decodes f32 and f64, and passes f16, bf16 and pairs of them to decode_half_binary (half.cpp).
/// The caller has not taken the modifiers .rn, .ftz ...
void decode_float_binary(Decoder& decoder, Type type, bool saturates, FloatBinary operation);
void decode_half_binary(Decoder& decoder, Type type, bool saturates, FloatBinary operation);
void decode_float_sign(Decoder& decoder, Type type, bool is_abs, bool flushes);
void decode_half_sign(Decoder& decoder, Type type, bool is_abs, bool flushes);
/// kind: "full", "approx", "rounded". Type::none: the type has not been taken yet.
void decode_float_divide(Decoder& decoder, std::string_view kind, Type type = Type::none);
/// fma, and mad of floats.
void decode_fma(Decoder& decoder);
void decode_half_fma(Decoder& decoder, Type type);

}  // namespace sim::ptx
