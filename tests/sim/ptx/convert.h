// The conversion that a cvt instruction asks for, and the decoders of the kinds of conversions. convert.cpp chooses
// among them.
#pragma once

#include "sim/ptx/decoder.h"

namespace sim::ptx {

enum class Rounding : std::uint8_t {
    none,
    near,
    zero,
    down,
    up,
    near_integer,
    zero_integer,
    down_integer,
    up_integer,
    away
};

struct Conversion {
    Type to = Type::none, from = Type::none;
    Rounding rounding = Rounding::none;
    bool flushes = false, saturates = false, relu = false;
};

void decode_convert_integer(Decoder& decoder, const Conversion& conversion);
void decode_convert_float(Decoder& decoder, const Conversion& conversion);
/// cvt.rn.bf16x2.f32 d, a, b: a becomes the upper half.
void decode_convert_pair(Decoder& decoder, const Conversion& conversion);

}  // namespace sim::ptx
