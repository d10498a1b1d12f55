// Integer arithmetic in one width: add, sub, mul, mad, div, rem, min, max, abs, neg, sad, with and without carry.
// Floating-point forms are passed on to the decoders of float_decode.h. Wide products are in wide_integer.cpp.
#include <type_traits>

#include "sim/ptx/by_type.h"
#include "sim/ptx/float_decode.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

template <class T> using Unsigned = std::make_unsigned_t<T>;

template <class T> T add(T a, T b) { return static_cast<T>(Unsigned<T>(a) + Unsigned<T>(b)); }
template <class T> T subtract(T a, T b) { return static_cast<T>(Unsigned<T>(a) - Unsigned<T>(b)); }
template <class T> T multiply(T a, T b) {
    return static_cast<T>(std::uint64_t(Unsigned<T>(a)) * std::uint64_t(Unsigned<T>(b)));
}
template <class T> T smaller(T a, T b) { return a < b ? a : b; }
template <class T> T larger(T a, T b) { return a > b ? a : b; }
template <class T> T negative(T a) { return static_cast<T>(Unsigned<T>(0) - Unsigned<T>(a)); }
template <class T> T absolute(T a) { return a < 0 ? negative(a) : a; }

/// PTX does not define x / 0; a GPU gives all ones, and x as the remainder. The smallest number divided by -1 is
/// itself.
template <class T> T divide(T a, T b) {
    if (b == 0) return static_cast<T>(~T{});
    if constexpr (std::is_signed_v<T>)
        if (b == -1) return negative(a);
    return static_cast<T>(a / b);
}
template <class T> T remainder(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>)
        if (b == -1) return 0;
    return static_cast<T>(a % b);
}
std::int32_t add_saturated(std::int32_t a, std::int32_t b) {
    const std::int64_t sum = std::int64_t{a} + b;
    return static_cast<std::int32_t>(smaller<std::int64_t>(larger<std::int64_t>(sum, INT32_MIN), INT32_MAX));
}
std::int32_t subtract_saturated(std::int32_t a, std::int32_t b) {
    const std::int64_t difference = std::int64_t{a} - b;
    return static_cast<std::int32_t>(smaller<std::int64_t>(larger<std::int64_t>(difference, INT32_MIN), INT32_MAX));
}

/// Adds or subtracts with the condition code. flag: reads it; count == 2: writes it.
template <class T, bool minus> void with_carry(Warp& warp, const Instruction& i, Lanes lanes) {
    T* d = row<T>(warp, i.d);
    const T *a = row<T>(warp, i.a), *b = row<T>(warp, i.b);
    const Lanes known = written(a) & written(b), before = warp.carry;
    for (unsigned l = 0; l < kLanes; ++l) {
        if (!(lanes >> l & 1)) continue;
        const unsigned in = i.flag ? before >> l & 1 : 0;
        const T first = minus ? T(a[l] - b[l]) : T(a[l] + b[l]), result = minus ? T(first - in) : T(first + in);
        const bool out = minus ? a[l] < b[l] || first < result : first < a[l] || result < first;
        d[l] = result;
        if (i.count == 2) warp.carry = (warp.carry & ~(1u << l)) | Lanes{out} << l;
    }
    mark(d, lanes, known);
}

void decode_add(Decoder& d) {
    const bool minus = d.name.starts_with("sub"), reads = d.name.ends_with("c");
    const bool writes = d.take("cc"), saturates = d.take("sat");
    const Type type = d.need_type();
    if (is_float(type))
        return decode_float_binary(d, type, saturates, minus ? FloatBinary::subtract : FloatBinary::add);
    Handler run = nullptr;
    if (reads || writes) {
        d.out.flag = reads;
        run = bytes_of(type) == 8 ? (minus ? &with_carry<std::uint64_t, true> : &with_carry<std::uint64_t, false>)
                                  : (minus ? &with_carry<std::uint32_t, true> : &with_carry<std::uint32_t, false>);
        if (bytes_of(type) < 4) d.fail_type(type);
    } else if (saturates) {
        if (type != Type::s32) d.fail_type(type);
        run = minus ? &binary<std::int32_t, &subtract_saturated, std::int32_t>
                    : &binary<std::int32_t, &add_saturated, std::int32_t>;
    } else {
        run = minus ? by_width(d, type, []<class T>() -> Handler { return &binary<T, &subtract<T>, T>; })
                    : by_width(d, type, []<class T>() -> Handler { return &binary<T, &add<T>, T>; });
    }
    decode_binary(d, type, type, type, run);
    if (writes) d.out.count = 2;
}

void decode_min_max(Decoder& d) {
    const bool is_min = d.name == "min";
    const Type type = [&] {
        if (d.take("relu")) d.fail("min and max with .relu are not known");
        return d.need_type();
    }();
    if (is_float(type)) return decode_float_binary(d, type, false, is_min ? FloatBinary::min : FloatBinary::max);
    decode_binary(d, type, type, type,
                  is_min ? by_integer(d, type, []<class T>() -> Handler { return &binary<T, &smaller<T>, T>; })
                         : by_integer(d, type, []<class T>() -> Handler { return &binary<T, &larger<T>, T>; }));
}

void decode_divide(Decoder& d) {
    const bool remains = d.name == "rem";
    if (!remains && d.take("full")) return decode_float_divide(d, "full");
    if (!remains && d.take("approx")) return decode_float_divide(d, "approx");
    const Type type = d.need_type();
    if (is_float(type)) return decode_float_divide(d, "rounded", type);
    decode_binary(d, type, type, type,
                  remains ? by_integer(d, type, []<class T>() -> Handler { return &binary<T, &remainder<T>, T>; })
                          : by_integer(d, type, []<class T>() -> Handler { return &binary<T, &divide<T>, T>; }));
}

void decode_negate(Decoder& d) {
    const bool is_abs = d.name == "abs", flushes = d.take("ftz");
    const Type type = d.need_type();
    if (is_float(type)) return decode_float_sign(d, type, is_abs, flushes);
    if (flushes || !is_signed(type)) d.fail_type(type);
    decode_unary(d, type, type,
                 is_abs ? by_integer(d, type, []<class T>() -> Handler { return &unary<T, &absolute<T>, T>; })
                        : by_integer(d, type, []<class T>() -> Handler { return &unary<T, &negative<T>, T>; }));
}

template <class T> T distance(T a, T b, T c) {
    return static_cast<T>(Unsigned<T>(c) + (a < b ? Unsigned<T>(b) - Unsigned<T>(a) : Unsigned<T>(a) - Unsigned<T>(b)));
}

/// dp4a, dp2a: c plus the products of `count` fields. The fields of a have 32 / count bits; those of b are its bytes
/// from `first` on. Both may be signed.
template <bool a_signed, bool b_signed, unsigned count, unsigned first>
std::uint32_t dot(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    constexpr unsigned kBits = 32 / count;
    for (unsigned k = 0; k < count; ++k) {
        const std::uint32_t x = a << (32 - kBits * (k + 1)), y = b << (24 - 8 * (first + k));
        const auto left =
            a_signed ? static_cast<std::uint32_t>(static_cast<std::int32_t>(x) >> (32 - kBits)) : x >> (32 - kBits);
        const auto right = b_signed ? static_cast<std::uint32_t>(static_cast<std::int32_t>(y) >> 24) : y >> 24;
        c += left * right;
    }
    return c;
}

template <unsigned count, unsigned first> Handler dot_of(bool a_signed, bool b_signed) {
    if (a_signed)
        return b_signed ? &ternary<std::uint32_t, &dot<true, true, count, first>, std::uint32_t>
                        : &ternary<std::uint32_t, &dot<true, false, count, first>, std::uint32_t>;
    return b_signed ? &ternary<std::uint32_t, &dot<false, true, count, first>, std::uint32_t>
                    : &ternary<std::uint32_t, &dot<false, false, count, first>, std::uint32_t>;
}

void decode_dot(Decoder& d) {
    const bool of_two = d.name == "dp2a";
    const std::string_view half = of_two ? d.take_any({"lo", "hi"}) : std::string_view();
    if (of_two && half.empty()) d.fail("dp2a needs .lo or .hi");
    const Type a = d.need_type(), b = d.need_type();
    for (const Type type : {a, b})
        if (type != Type::u32 && type != Type::s32) d.fail_type(type);
    const bool a_signed = a == Type::s32, b_signed = b == Type::s32;
    const Handler run = !of_two        ? dot_of<4, 0>(a_signed, b_signed)
                        : half == "lo" ? dot_of<2, 0>(a_signed, b_signed)
                                       : dot_of<2, 2>(a_signed, b_signed);
    decode_ternary(d, Type::u32, Type::u32, Type::u32, Type::u32, run);
}

void decode_sad(Decoder& d) {
    const Type type = d.need_type();
    decode_ternary(d, type, type, type, type,
                   by_integer(d, type, []<class T>() -> Handler { return &ternary<T, &distance<T>, T>; }));
}

}  // namespace

void add_integer_operations(Operations& operations) {
    for (const std::string_view name : {"add", "sub", "addc", "subc"}) operations[name] = &decode_add;
    operations["min"] = operations["max"] = &decode_min_max;
    operations["div"] = operations["rem"] = &decode_divide;
    operations["neg"] = operations["abs"] = &decode_negate;
    operations["dp4a"] = operations["dp2a"] = &decode_dot;
    operations["sad"] = &decode_sad;
}

}  // namespace sim::ptx
