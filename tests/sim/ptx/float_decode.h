// Decoders of floating-point forms that share their name with integer instructions.
#pragma once

#include "sim/ptx/decoder.h"

namespace sim::ptx {

enum class FloatBinary : std::uint8_t { add, subtract, multiply, min, max };

/// f32, f64 here; f16, bf16 and pairs of them in half.cpp. Modifiers .rn, .ftz ... are still to be taken.
void decode_float_binary(Decoder& decoder, Type type, bool saturates, FloatBinary operation);
void decode_half_binary(Decoder& decoder, Type type, bool saturates, FloatBinary operation);
void decode_float_sign(Decoder& decoder, Type type, bool is_abs, bool flushes);
void decode_half_sign(Decoder& decoder, Type type, bool is_abs, bool flushes);
/// kind: "full", "approx", "rounded". Type::none: still to be taken.
void decode_float_divide(Decoder& decoder, std::string_view kind, Type type = Type::none);
/// fma and mad of floats.
void decode_fma(Decoder& decoder);
void decode_half_fma(Decoder& decoder, Type type);

}  // namespace sim::ptx
