// Arithmetic of f16 and bf16, single and in pairs: every result is rounded once from its exact value.
#include "sim/ptx/float_bits.h"
#include "sim/ptx/float_decode.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

float quiet_min(float a, float b) { return a != a ? b : b != b ? a : a < b ? a : b < a ? b : std::signbit(a) ? a : b; }
float quiet_max(float a, float b) { return a != a ? b : b != b ? a : a > b ? a : b > a ? b : std::signbit(a) ? b : a; }

/// Sums and products of two halves are exact in double, or rounded to odd, so the last rounding is the only one that
/// counts.
template <class F, FloatBinary operation> std::uint16_t one(std::uint16_t a, std::uint16_t b) {
    const float x = F::widen(a), y = F::widen(b);
    switch (operation) {
        case FloatBinary::add:
            return F::narrow(narrow_to_odd(sum_to_odd(x, y)));
        case FloatBinary::subtract:
            return F::narrow(narrow_to_odd(sum_to_odd(x, -y)));
        case FloatBinary::multiply:
            return F::narrow(narrow_to_odd(double(x) * y));
        case FloatBinary::min:
            return F::narrow(quiet_min(x, y));
        case FloatBinary::max:
            return F::narrow(quiet_max(x, y));
    }
    return 0;
}
/// With .NaN: if one operand is NaN, the result is NaN.
template <class F, FloatBinary operation> std::uint16_t one_nan(std::uint16_t a, std::uint16_t b) {
    const float x = F::widen(a), y = F::widen(b);
    return x != x || y != y ? kNan16 : one<F, operation>(a, b);
}
template <class F> std::uint16_t fused(std::uint16_t a, std::uint16_t b, std::uint16_t c) {
    return F::narrow(narrow_to_odd(sum_to_odd(double(F::widen(a)) * F::widen(b), F::widen(c))));
}
template <class F> std::uint16_t saturated_half(std::uint16_t x) { return F::narrow(saturated(F::widen(x))); }
template <class F, FloatBinary operation> std::uint16_t one_saturated(std::uint16_t a, std::uint16_t b) {
    return saturated_half<F>(one<F, operation>(a, b));
}
template <class F> std::uint16_t fused_saturated(std::uint16_t a, std::uint16_t b, std::uint16_t c) {
    return saturated_half<F>(fused<F>(a, b, c));
}
std::uint16_t minus(std::uint16_t a) { return static_cast<std::uint16_t>(a ^ 0x8000u); }
std::uint16_t magnitude(std::uint16_t a) { return a & 0x7fffu; }

template <auto f> std::uint32_t pair1(std::uint32_t a) {
    return std::uint32_t{f(static_cast<std::uint16_t>(a))} | std::uint32_t{f(static_cast<std::uint16_t>(a >> 16))}
                                                                 << 16;
}
template <auto f> std::uint32_t pair2(std::uint32_t a, std::uint32_t b) {
    return std::uint32_t{f(static_cast<std::uint16_t>(a), static_cast<std::uint16_t>(b))} |
           std::uint32_t{f(static_cast<std::uint16_t>(a >> 16), static_cast<std::uint16_t>(b >> 16))} << 16;
}
template <auto f> std::uint32_t pair3(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    return std::uint32_t{
               f(static_cast<std::uint16_t>(a), static_cast<std::uint16_t>(b), static_cast<std::uint16_t>(c))} |
           std::uint32_t{f(static_cast<std::uint16_t>(a >> 16), static_cast<std::uint16_t>(b >> 16),
                           static_cast<std::uint16_t>(c >> 16))}
               << 16;
}

template <auto f> Handler single_or_pair2(Type type) {
    return bytes_of(type) == 2 ? &binary<std::uint16_t, f, std::uint16_t>
                               : &binary<std::uint32_t, &pair2<f>, std::uint32_t>;
}
template <auto f> Handler single_or_pair3(Type type) {
    return bytes_of(type) == 2 ? &ternary<std::uint16_t, f, std::uint16_t>
                               : &ternary<std::uint32_t, &pair3<f>, std::uint32_t>;
}
template <auto f> Handler single_or_pair1(Type type) {
    return bytes_of(type) == 2 ? &unary<std::uint16_t, f, std::uint16_t>
                               : &unary<std::uint32_t, &pair1<f>, std::uint32_t>;
}

template <FloatBinary operation> Handler choose(Type type, bool nan, bool saturates) {
    const bool is_f16 = type == Type::f16 || type == Type::f16x2;
    if (nan)
        return is_f16 ? single_or_pair2<&one_nan<F16, operation>>(type)
                      : single_or_pair2<&one_nan<Bf16, operation>>(type);
    if (saturates)
        return is_f16 ? single_or_pair2<&one_saturated<F16, operation>>(type)
                      : single_or_pair2<&one_saturated<Bf16, operation>>(type);
    return is_f16 ? single_or_pair2<&one<F16, operation>>(type) : single_or_pair2<&one<Bf16, operation>>(type);
}

void require_half(const Decoder& d, Type type) {
    if (type != Type::f16 && type != Type::bf16 && type != Type::f16x2 && type != Type::bf16x2) d.fail_type(type);
}

}  // namespace

void decode_half_binary(Decoder& d, Type type, bool saturates, FloatBinary operation) {
    require_half(d, type);
    const bool compares = operation == FloatBinary::min || operation == FloatBinary::max;
    const bool nan = compares && d.take("NaN");
    if (!compares) d.take("rn");
    saturates = !compares && (saturates || d.take("sat"));
    Handler run = nullptr;
    switch (operation) {
        case FloatBinary::add:
            run = choose<FloatBinary::add>(type, false, saturates);
            break;
        case FloatBinary::subtract:
            run = choose<FloatBinary::subtract>(type, false, saturates);
            break;
        case FloatBinary::multiply:
            run = choose<FloatBinary::multiply>(type, false, saturates);
            break;
        case FloatBinary::min:
            run = choose<FloatBinary::min>(type, nan, false);
            break;
        case FloatBinary::max:
            run = choose<FloatBinary::max>(type, nan, false);
            break;
    }
    decode_binary(d, type, type, type, run);
}

void decode_half_sign(Decoder& d, Type type, bool is_abs, bool flushes) {
    require_half(d, type);
    if (flushes) d.fail("neg and abs of halves with .ftz are not known");
    decode_unary(d, type, type, is_abs ? single_or_pair1<&magnitude>(type) : single_or_pair1<&minus>(type));
}

void decode_half_fma(Decoder& d, Type type) {
    require_half(d, type);
    d.take("rn");
    const bool saturates = d.take("sat"), is_f16 = type == Type::f16 || type == Type::f16x2;
    Handler run = is_f16 ? single_or_pair3<&fused<F16>>(type) : single_or_pair3<&fused<Bf16>>(type);
    if (saturates)
        run = is_f16 ? single_or_pair3<&fused_saturated<F16>>(type) : single_or_pair3<&fused_saturated<Bf16>>(type);
    decode_ternary(d, type, type, type, type, run);
}

}  // namespace sim::ptx
