// Arithmetic of f32 and f64: add, sub, mul, fma, min, max, neg, abs, copysign, testp, with .ftz, .sat and the four
// roundings.
#include <cfenv>

#include "sim/ptx/by_type.h"
#include "sim/ptx/float_bits.h"
#include "sim/ptx/float_decode.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

struct Add {
    template <class T> static T f(T a, T b) { return a + b; }
};
struct Subtract {
    template <class T> static T f(T a, T b) { return a - b; }
};
struct Multiply {
    template <class T> static T f(T a, T b) { return a * b; }
};
/// If one operand is NaN, the result is the other one; -0 is less than +0.
struct Min {
    template <class T> static T f(T a, T b) {
        const T less = a < b ? a : b < a ? b : std::signbit(a) ? a : b;
        return a != a ? b : b != b ? a : less;
    }
};
struct Max {
    template <class T> static T f(T a, T b) {
        const T more = a > b ? a : b > a ? b : std::signbit(a) ? b : a;
        return a != a ? b : b != b ? a : more;
    }
};
/// With .NaN: if one operand is NaN, the result is NaN.
struct MinNan {
    template <class T> static T f(T a, T b) {
        return a != a || b != b ? std::numeric_limits<T>::quiet_NaN() : Min::f(a, b);
    }
};
struct MaxNan {
    template <class T> static T f(T a, T b) {
        return a != a || b != b ? std::numeric_limits<T>::quiet_NaN() : Max::f(a, b);
    }
};

template <class Op, class T> T plain(T a, T b) { return canonical(Op::f(a, b)); }
template <class Op> float with_ftz(float a, float b) { return canonical(flushed(Op::f(flushed(a), flushed(b)))); }
template <class Op> float with_sat(float a, float b) { return saturated(Op::f(a, b)); }
template <class Op> float with_ftz_sat(float a, float b) { return saturated(flushed(Op::f(flushed(a), flushed(b)))); }

int rounding_of(Decoder& d) {
    const std::string_view mode = d.take_any({"rn", "rz", "rm", "rp"});
    return mode == "rz" ? FE_TOWARDZERO : mode == "rm" ? FE_DOWNWARD : mode == "rp" ? FE_UPWARD : FE_TONEAREST;
}

/// Other rounding modes. target: the mode; count: 1 with .ftz, 2 with .sat, 3 with both. The operands are read from
/// memory after the first call of fesetround and the results are written before the second one, so the compiler cannot
/// move the computation out from between them.
template <class T, class f> void rounded(Warp& warp, const Instruction& i, Lanes lanes) {
    T* d = row<T>(warp, i.d);
    const T *a = row<T>(warp, i.a), *b = row<T>(warp, i.b), *c = i.c == kNoRow ? a : row<T>(warp, i.c);
    const Lanes known = written(a) & written(b) & written(c);
    alignas(32) T t[kLanes];
    const auto each = [&](auto function) {
        std::fesetround(static_cast<int>(i.target));
#pragma omp simd
        for (unsigned l = 0; l < kLanes; ++l) t[l] = function(a[l], b[l], c[l]);
        std::fesetround(FE_TONEAREST);
    };
    if constexpr (std::is_same_v<T, float>) {
        const bool flushes = i.count & 1;
        flushes ? each([](T x, T y, T z) { return flushed(f::f(flushed(x), flushed(y), flushed(z))); })
                : each([](T x, T y, T z) { return f::f(x, y, z); });
        for (unsigned l = 0; l < kLanes; ++l) t[l] = i.count & 2 ? saturated(t[l]) : canonical(t[l]);
    } else {
        each([](T x, T y, T z) { return f::f(x, y, z); });
    }
    merge(d, t, lanes);
    mark(d, lanes, known);
}

struct RoundedAdd {
    template <class T> static T f(T a, T b, T) { return a + b; }
};
struct RoundedSubtract {
    template <class T> static T f(T a, T b, T) { return a - b; }
};
struct RoundedMultiply {
    template <class T> static T f(T a, T b, T) { return a * b; }
};
struct RoundedFma {
    template <class T> static T f(T a, T b, T c) { return std::fma(a, b, c); }
};

template <class Op> Handler choose(Decoder& d, Type type, bool flushes, bool saturates) {
    if (type == Type::f64) {
        if (flushes || saturates) d.fail_type(type);
        return &binary<double, &plain<Op, double>, double>;
    }
    if (type != Type::f32) d.fail_type(type);
    if (flushes) return saturates ? &binary<float, &with_ftz_sat<Op>, float> : &binary<float, &with_ftz<Op>, float>;
    return saturates ? &binary<float, &with_sat<Op>, float> : &binary<float, &plain<Op, float>, float>;
}

template <class f> Handler choose_rounded(Type type) {
    return type == Type::f64 ? &rounded<double, f> : &rounded<float, f>;
}

float fma_plain(float a, float b, float c) { return canonical(std::fma(a, b, c)); }
float fma_ftz(float a, float b, float c) { return canonical(flushed(std::fma(flushed(a), flushed(b), flushed(c)))); }
float fma_sat(float a, float b, float c) { return saturated(std::fma(a, b, c)); }
float fma_ftz_sat(float a, float b, float c) {
    return saturated(flushed(std::fma(flushed(a), flushed(b), flushed(c))));
}
double fma_double(double a, double b, double c) { return std::fma(a, b, c); }

template <class T> T minus(T a) { return -a; }
template <class T> T magnitude(T a) { return std::fabs(a); }
float minus_flushed(float a) { return -flushed(a); }
float magnitude_flushed(float a) { return std::fabs(flushed(a)); }
/// copysign d, a, b: b with the sign of a.
template <class T> T signed_as(T a, T b) { return std::copysign(b, a); }

void decode_copysign(Decoder& d) {
    const Type type = d.need_type();
    decode_binary(d, type, type, type,
                  by_float(d, type, []<class T>() -> Handler { return &binary<T, &signed_as<T>, T>; }));
}

/// testp. target: which property.
template <class T> void test_property(Warp& warp, const Instruction& i, Lanes lanes) {
    const T* a = row<T>(warp, i.a);
    Lanes result = 0;
    for (unsigned l = 0; l < kLanes; ++l) {
        const int kind = std::fpclassify(a[l]);
        const bool holds[] = {kind != FP_INFINITE && kind != FP_NAN,
                              kind == FP_INFINITE,
                              kind != FP_NAN,
                              kind == FP_NAN,
                              kind == FP_NORMAL,
                              kind == FP_SUBNORMAL || kind == FP_ZERO};
        result |= Lanes{holds[i.target]} << l;
    }
    set_predicate(warp, i.d, lanes, result, written(a));
}

void decode_testp(Decoder& d) {
    constexpr std::string_view kProperties[] = {"finite", "infinite", "number", "notanumber", "normal", "subnormal"};
    const std::string_view property = d.take_any({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
    const Type type = d.need_type();
    if (property.empty()) d.fail("testp without a property");
    decode_unary(d, Type::pred, type, by_float(d, type, []<class T>() -> Handler { return &test_property<T>; }));
    while (kProperties[d.out.target] != property) ++d.out.target;
}

}  // namespace

void decode_float_binary(Decoder& d, Type type, bool saturates, FloatBinary operation) {
    if (type != Type::f32 && type != Type::f64) return decode_half_binary(d, type, saturates, operation);
    const bool flushes = d.take("ftz");
    saturates = saturates || d.take("sat");
    const bool nan = (operation == FloatBinary::min || operation == FloatBinary::max) && d.take("NaN");
    const int rounding = operation == FloatBinary::min || operation == FloatBinary::max ? FE_TONEAREST : rounding_of(d);
    Handler run = nullptr;
    switch (operation) {
        case FloatBinary::add:
            run =
                rounding == FE_TONEAREST ? choose<Add>(d, type, flushes, saturates) : choose_rounded<RoundedAdd>(type);
            break;
        case FloatBinary::subtract:
            run = rounding == FE_TONEAREST ? choose<Subtract>(d, type, flushes, saturates)
                                           : choose_rounded<RoundedSubtract>(type);
            break;
        case FloatBinary::multiply:
            run = rounding == FE_TONEAREST ? choose<Multiply>(d, type, flushes, saturates)
                                           : choose_rounded<RoundedMultiply>(type);
            break;
        case FloatBinary::min:
            run = nan ? choose<MinNan>(d, type, flushes, false) : choose<Min>(d, type, flushes, false);
            break;
        case FloatBinary::max:
            run = nan ? choose<MaxNan>(d, type, flushes, false) : choose<Max>(d, type, flushes, false);
            break;
    }
    decode_binary(d, type, type, type, run);
    d.out.target = static_cast<std::uint32_t>(rounding);
    d.out.count = static_cast<std::uint8_t>(flushes | saturates << 1);
}

void decode_float_sign(Decoder& d, Type type, bool is_abs, bool flushes) {
    if (type != Type::f32 && type != Type::f64) return decode_half_sign(d, type, is_abs, flushes);
    if (flushes && type == Type::f64) d.fail_type(type);
    Handler run = is_abs ? by_float(d, type, []<class T>() -> Handler { return &unary<T, &magnitude<T>, T>; })
                         : by_float(d, type, []<class T>() -> Handler { return &unary<T, &minus<T>, T>; });
    if (flushes) run = is_abs ? &unary<float, &magnitude_flushed, float> : &unary<float, &minus_flushed, float>;
    decode_unary(d, type, type, run);
}

void decode_fma(Decoder& d) {
    const bool relu = d.take("relu");
    const Type type = d.need_type();
    if (type != Type::f32 && type != Type::f64) {
        if (relu) d.fail("fma with .relu is not known");
        return decode_half_fma(d, type);
    }
    if (relu) d.fail_type(type);
    const bool flushes = d.take("ftz"), saturates = d.take("sat");
    const int rounding = rounding_of(d);
    if (type == Type::f64 && (flushes || saturates)) d.fail_type(type);
    Handler run = &ternary<float, &fma_plain, float>;
    if (rounding != FE_TONEAREST) run = choose_rounded<RoundedFma>(type);
    else if (type == Type::f64) run = &ternary<double, &fma_double, double>;
    else if (flushes || saturates)
        run = flushes && saturates ? &ternary<float, &fma_ftz_sat, float>
              : flushes            ? &ternary<float, &fma_ftz, float>
                                   : &ternary<float, &fma_sat, float>;
    decode_ternary(d, type, type, type, type, run);
    d.out.target = static_cast<std::uint32_t>(rounding);
    d.out.count = static_cast<std::uint8_t>(flushes | saturates << 1);
}

void add_float_operations(Operations& operations) {
    operations["fma"] = &decode_fma;
    operations["copysign"] = &decode_copysign;
    operations["testp"] = &decode_testp;
}

}  // namespace sim::ptx
