// Products of integers: mul and mad with .lo, .hi, .wide, the 24-bit forms, and mad with carry.
#include <type_traits>

#include "sim/ptx/by_type.h"
#include "sim/ptx/float_decode.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

/// A type that holds the whole product.
template <class T> struct DoubleWidth;
template <> struct DoubleWidth<std::uint16_t> { using type = std::uint32_t; };
template <> struct DoubleWidth<std::int16_t> { using type = std::int32_t; };
template <> struct DoubleWidth<std::uint32_t> { using type = std::uint64_t; };
template <> struct DoubleWidth<std::int32_t> { using type = std::int64_t; };
__extension__ using Int128 = __int128;
__extension__ using UInt128 = unsigned __int128;
template <> struct DoubleWidth<std::uint64_t> { using type = UInt128; };
template <> struct DoubleWidth<std::int64_t> { using type = Int128; };
template <class T> using Wide = typename DoubleWidth<T>::type;

template <class T> T low(T a, T b) { return static_cast<T>(std::uint64_t(a) * std::uint64_t(b)); }
template <class T> T high(T a, T b) { return static_cast<T>((Wide<T>(a) * Wide<T>(b)) >> (8 * sizeof(T))); }
template <class T> Wide<T> wide(T a, T b) { return Wide<T>(a) * Wide<T>(b); }
template <class T> T low_add(T a, T b, T c) {
    return static_cast<T>(std::uint64_t(a) * std::uint64_t(b) + std::uint64_t(c));
}
template <class T> T high_add(T a, T b, T c) { return static_cast<T>(std::uint64_t(high(a, b)) + std::uint64_t(c)); }
template <class T> Wide<T> wide_add(T a, T b, Wide<T> c) {
    return static_cast<Wide<T>>(std::uint64_t(wide(a, b)) + std::uint64_t(c));
}

/// mul24: multiplies 24 bits of each factor, sign-extended if signed.
template <class T> T low24(T a, T b) {
    const auto cut = [](T x) { return static_cast<T>(static_cast<T>(std::uint32_t(x) << 8) >> 8); };
    return static_cast<T>(std::int64_t(cut(a)) * std::int64_t(cut(b)));
}
template <class T> T low24_add(T a, T b, T c) { return static_cast<T>(std::uint32_t(low24(a, b)) + std::uint32_t(c)); }

/// mad.lo.cc, madc.hi ... flag: reads the carry; target & 1: writes it; target & 2: adds the high half.
template <class T> void mad_carry(Warp& warp, const Instruction& i, Lanes lanes) {
    using U = std::make_unsigned_t<T>;
    U* d = row<U>(warp, i.d);
    const T *a = row<T>(warp, i.a), *b = row<T>(warp, i.b);
    const U* c = row<U>(warp, i.c);
    const Lanes known = written(a) & written(b) & written(c), before = warp.carry;
    for (unsigned l = 0; l < kLanes; ++l) {
        if (!(lanes >> l & 1)) continue;
        const U product = static_cast<U>(i.target & 2 ? high(a[l], b[l]) : low(a[l], b[l]));
        const UInt128 sum = UInt128{product} + c[l] + (i.flag ? before >> l & 1 : 0);
        d[l] = static_cast<U>(sum);
        if (i.target & 1) warp.carry = (warp.carry & ~(1u << l)) | static_cast<Lanes>(sum >> (8 * sizeof(T)) & 1) << l;
    }
    mark(d, lanes, known);
}

Type doubled(const Decoder& d, Type type) {
    switch (type) {
        case Type::u16:
            return Type::u32;
        case Type::s16:
            return Type::s32;
        case Type::u32:
            return Type::u64;
        case Type::s32:
            return Type::s64;
        default:
            d.fail_type(type);
    }
}

template <class Make> Handler by_half(const Decoder& d, Type type, Make make) {
    switch (type) {
        case Type::u16:
            return make.template operator()<std::uint16_t>();
        case Type::s16:
            return make.template operator()<std::int16_t>();
        case Type::u32:
            return make.template operator()<std::uint32_t>();
        case Type::s32:
            return make.template operator()<std::int32_t>();
        default:
            d.fail_type(type);
    }
}

void decode_multiply(Decoder& d) {
    const std::string_view part = d.take_any({"lo", "hi", "wide"});
    const bool saturates = part.empty() && d.take("sat");
    const Type type = d.need_type();
    if (is_float(type)) return decode_float_binary(d, type, saturates, FloatBinary::multiply);
    if (part == "wide")
        return decode_binary(d, doubled(d, type), type, type,
                             by_half(d, type, []<class T>() -> Handler { return &binary<Wide<T>, &wide<T>, T>; }));
    if (part.empty()) d.fail("mul of integers needs .lo, .hi or .wide");
    decode_binary(d, type, type, type,
                  part == "lo" ? by_integer(d, type, []<class T>() -> Handler { return &binary<T, &low<T>, T>; })
                               : by_integer(d, type, []<class T>() -> Handler { return &binary<T, &high<T>, T>; }));
}

void decode_mad(Decoder& d) {
    const std::string_view part = d.take_any({"lo", "hi", "wide"});
    const bool reads = d.name == "madc", writes = d.take("cc");
    if (part.empty()) return decode_fma(d);
    const Type type = d.need_type();
    if (reads || writes) {
        if (part == "wide" || bytes_of(type) < 4) d.fail_type(type);
        decode_ternary(d, type, type, type, type,
                       by_integer(d, type, []<class T>() -> Handler { return &mad_carry<T>; }));
        d.out.flag = reads;
        d.out.target = (writes ? 1 : 0) | (part == "hi" ? 2 : 0);
        return;
    }
    if (part == "wide")
        return decode_ternary(
            d, doubled(d, type), type, type, doubled(d, type),
            by_half(d, type, []<class T>() -> Handler { return &ternary<Wide<T>, &wide_add<T>, T, T, Wide<T>>; }));
    decode_ternary(d, type, type, type, type,
                   part == "lo"
                       ? by_integer(d, type, []<class T>() -> Handler { return &ternary<T, &low_add<T>, T>; })
                       : by_integer(d, type, []<class T>() -> Handler { return &ternary<T, &high_add<T>, T>; }));
}

void decode_24(Decoder& d) {
    if (!d.take("lo")) d.fail("only .lo is known");
    const Type type = d.need_type();
    if (bytes_of(type) != 4) d.fail_type(type);
    if (d.name == "mul24")
        decode_binary(d, type, type, type,
                      is_signed(type) ? &binary<std::int32_t, &low24<std::int32_t>, std::int32_t>
                                      : &binary<std::uint32_t, &low24<std::uint32_t>, std::uint32_t>);
    else
        decode_ternary(d, type, type, type, type,
                       is_signed(type) ? &ternary<std::int32_t, &low24_add<std::int32_t>, std::int32_t>
                                       : &ternary<std::uint32_t, &low24_add<std::uint32_t>, std::uint32_t>);
}

}  // namespace

void add_wide_integer_operations(Operations& operations) {
    operations["mul"] = &decode_multiply;
    operations["mad"] = operations["madc"] = &decode_mad;
    operations["mul24"] = operations["mad24"] = &decode_24;
}

}  // namespace sim::ptx
