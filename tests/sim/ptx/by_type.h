// Turns a PTX type into a C++ type: each function calls make.operator()<T>() with the C++ type T of the given PTX type.
#pragma once

#include <cstdint>

#include "sim/ptx/decoder.h"

namespace sim::ptx {

/// Integers of 16, 32 and 64 bits, signed as the type says; bit types (.b32) are unsigned.
template <class Make> Handler by_integer(const Decoder& decoder, Type type, Make make) {
    switch (type) {
        case Type::b16:
        case Type::u16:
            return make.template operator()<std::uint16_t>();
        case Type::s16:
            return make.template operator()<std::int16_t>();
        case Type::b32:
        case Type::u32:
            return make.template operator()<std::uint32_t>();
        case Type::s32:
            return make.template operator()<std::int32_t>();
        case Type::b64:
        case Type::u64:
            return make.template operator()<std::uint64_t>();
        case Type::s64:
            return make.template operator()<std::int64_t>();
        default:
            decoder.fail_type(type);
    }
}

/// Unsigned integers, by the number of bits alone.
template <class Make> Handler by_width(const Decoder& decoder, Type type, Make make) {
    switch (bytes_of(type)) {
        case 2:
            return make.template operator()<std::uint16_t>();
        case 4:
            return make.template operator()<std::uint32_t>();
        case 8:
            return make.template operator()<std::uint64_t>();
        default:
            decoder.fail_type(type);
    }
}

template <class Make> Handler by_float(const Decoder& decoder, Type type, Make make) {
    switch (type) {
        case Type::f32:
            return make.template operator()<float>();
        case Type::f64:
            return make.template operator()<double>();
        default:
            decoder.fail_type(type);
    }
}

}  // namespace sim::ptx
