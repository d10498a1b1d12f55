// Decodes cvt: which conversion an instruction asks for. The conversions themselves are in convert_integer.cpp and
// convert_float.cpp.
#include "sim/ptx/convert.h"

namespace sim::ptx {

namespace {

bool is_integer(Type type) {
    return !is_float(type) && type != Type::pred && bytes_of(type) >= 1 && bytes_of(type) <= 8;
}

Rounding rounding_of(Decoder& d) {
    constexpr std::pair<std::string_view, Rounding> kNames[] = {
        {"rn", Rounding::near},          {"rz", Rounding::zero},
        {"rm", Rounding::down},          {"rp", Rounding::up},
        {"rni", Rounding::near_integer}, {"rzi", Rounding::zero_integer},
        {"rmi", Rounding::down_integer}, {"rpi", Rounding::up_integer},
        {"rna", Rounding::away}};
    for (const auto& [name, rounding] : kNames)
        if (d.take(name)) return rounding;
    return Rounding::none;
}

void decode_cvt(Decoder& d) {
    Conversion c;
    c.rounding = rounding_of(d);
    c.flushes = d.take("ftz"), c.saturates = d.take("sat"), c.relu = d.take("relu");
    c.to = d.need_type(), c.from = d.need_type();
    if (c.to == Type::bf16x2 || c.to == Type::f16x2) return decode_convert_pair(d, c);
    d.expect_operands(2);
    if (is_integer(c.to) && is_integer(c.from)) return decode_convert_integer(d, c);
    if (c.from == Type::tf32 || c.from == Type::bf16x2 || c.from == Type::f16x2) d.fail_type(c.from);
    decode_convert_float(d, c);
}

}  // namespace

void add_convert_operations(Operations& operations) { operations["cvt"] = &decode_cvt; }

}  // namespace sim::ptx
