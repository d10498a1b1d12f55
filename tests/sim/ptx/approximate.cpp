// Division, reciprocal, roots and the approximate functions. The approximate functions are computed in double precision
// and rounded once. They are nearer to the true value than a GPU's, so tests must leave room for the GPU's errors (ex2,
// lg2: 2 ulp; sin, cos: 2^-21 absolute; tanh: 2^-11).
#include "sim/ptx/by_type.h"
#include "sim/ptx/float_bits.h"
#include "sim/ptx/float_decode.h"
#include "sim/ptx/lanes.h"

#include <cfenv>

namespace sim::ptx {

namespace {

struct Reciprocal {
    template <class T> static T f(T x) { return T(1) / x; }
};
struct Root {
    template <class T> static T f(T x) { return std::sqrt(x); }
};
struct InverseRoot {
    static double f(double x) { return 1 / std::sqrt(x); }
    static float f(float x) { return static_cast<float>(1 / std::sqrt(double(x))); }
};
/// 2^x in double for any float: the nearest integer goes into the exponent, and a Taylor polynomial of the rest (at
/// most 1/2) is within 2^-51. It has no branches, so that it becomes vector code.
struct Exp2 {
    static float f(float x) {
        constexpr double kRound = 0x1.8p52;  // after adding it, the low bits hold the integer
        constexpr double kTaylor[] = {1.0,
                                      0.6931471805599453,
                                      0.24022650695910072,
                                      0.05550410866482158,
                                      0.009618129107628477,
                                      0.0013333558146428443,
                                      0.00015403530393381608,
                                      1.5252733804059841e-05,
                                      1.321548679014431e-06,
                                      1.0178086009239699e-07,
                                      7.054911620801123e-09,
                                      4.4455382718708116e-10,
                                      2.567843599348821e-11,
                                      1.3691488853904128e-12};
        const double wide = x, inside = wide < -200.0 ? -200.0 : wide > 200.0 ? 200.0 : wide;  // a NaN stays
        const double shifted = inside + kRound, rest = inside - (shifted - kRound);
        double sum = kTaylor[13];
        for (int k = 12; k >= 0; --k) sum = sum * rest + kTaylor[k];
        const double power = std::bit_cast<double>((std::bit_cast<std::uint64_t>(shifted) + 1023) << 52);
        return static_cast<float>(sum * power);
    }
};
struct Log2 {
    static float f(float x) { return static_cast<float>(std::log2(double(x))); }
};
struct Sine {
    static float f(float x) { return static_cast<float>(std::sin(double(x))); }
};
struct Cosine {
    static float f(float x) { return static_cast<float>(std::cos(double(x))); }
};
struct Tanh {
    static float f(float x) { return static_cast<float>(std::tanh(double(x))); }
};

template <class Op> float plain(float x) { return canonical(Op::f(x)); }
template <class Op> float with_ftz(float x) { return canonical(flushed(Op::f(flushed(x)))); }
template <class Op> double in_double(double x) { return Op::f(x); }

/// Without .ftz, ex2 takes subnormals and may give them.
template <class Op> void decode_function(Decoder& d) {
    if (!d.take("approx")) d.fail("only .approx is known");
    const bool flushes = d.take("ftz");
    const Type type = d.need_type();
    if (type != Type::f32) d.fail_type(type);
    decode_unary(d, type, type, flushes ? &unary<float, &with_ftz<Op>, float> : &unary<float, &plain<Op>, float>);
}

/// rcp.approx.ftz.f64, rsqrt.approx.ftz.f64: only the upper word of the result is computed; the lower one is zero.
template <class Op> double coarse(double x) {
    const auto flush = [](double v) {
        return std::fabs(v) < std::numeric_limits<double>::min() ? std::copysign(0.0, v) : v;
    };
    return std::bit_cast<double>(std::bit_cast<std::uint64_t>(flush(Op::f(flush(x)))) & 0xffffffff00000000u);
}

/// sqrt and rcp in a directed rounding: `target` is the mode; `flag` says .ftz.
template <class T, class Op> void directed(Warp& warp, const Instruction& i, Lanes lanes) {
    T* d = row<T>(warp, i.d);
    const T* a = row<T>(warp, i.a);
    const Lanes known = written(a);
    std::fesetround(static_cast<int>(i.target));
    for (unsigned l = 0; l < kLanes; ++l) {
        if (!(lanes >> l & 1)) continue;
        volatile T x = a[l];
        if constexpr (sizeof(T) == 4)
            if (i.flag) x = flushed(x);
        volatile T result = Op::f(T(x));
        if constexpr (sizeof(T) == 4)
            if (i.flag) result = flushed(result);
        d[l] = canonical(T(result));
    }
    std::fesetround(FE_TONEAREST);
    mark(d, lanes, known);
}

template <class Op> void decode_root(Decoder& d) {
    const bool approximate = d.take("approx"), flushes = d.take("ftz");
    const std::string_view rounding = d.take_any({"rn", "rz", "rm", "rp"});
    const Type type = d.need_type();
    if (type != Type::f32 && type != Type::f64) d.fail_type(type);
    Handler run = flushes ? &unary<float, &with_ftz<Op>, float> : &unary<float, &plain<Op>, float>;
    if (type == Type::f64)
        run = approximate && flushes ? &unary<double, &coarse<Op>, double> : &unary<double, &in_double<Op>, double>;
    const bool is_directed = !rounding.empty() && rounding != "rn";
    if (is_directed) run = type == Type::f64 ? &directed<double, Op> : &directed<float, Op>;
    decode_unary(d, type, type, run);
    d.out.flag = flushes;
    d.out.target = static_cast<std::uint32_t>(rounding == "rz"   ? FE_TOWARDZERO
                                              : rounding == "rm" ? FE_DOWNWARD
                                              : rounding == "rp" ? FE_UPWARD
                                                                 : FE_TONEAREST);
}

float quotient(float a, float b) { return canonical(a / b); }
float quotient_ftz(float a, float b) { return canonical(flushed(flushed(a) / flushed(b))); }
double quotient_double(double a, double b) { return a / b; }
/// div.approx: for |b| in (2^126, 2^128) the result is 0, or NaN if a is infinite. div.full is computed exactly, also
/// there.
float quotient_approximate(float a, float b) {
    const float size = std::fabs(b);
    if (size > 0x1p126f && size <= std::numeric_limits<float>::max())
        return std::isinf(a) ? kNan32 : std::copysign(0.0f, a) * std::copysign(1.0f, b);
    return canonical(a / b);
}
float quotient_approximate_ftz(float a, float b) { return flushed(quotient_approximate(flushed(a), flushed(b))); }

}  // namespace

void decode_float_divide(Decoder& d, std::string_view kind, Type type) {
    const bool flushes = d.take("ftz");
    const std::string_view rounding = d.take_any({"rn", "rz", "rm", "rp"});
    if (type == Type::none) type = d.need_type();
    if (!rounding.empty() && rounding != "rn") d.fail("div with a rounding other than .rn is not known");
    if (type == Type::f64 && kind == "rounded")
        return decode_binary(d, type, type, type, &binary<double, &quotient_double, double>);
    if (type != Type::f32) d.fail_type(type);
    if (kind == "approx")
        return decode_binary(
            d, type, type, type,
            flushes ? &binary<float, &quotient_approximate_ftz, float> : &binary<float, &quotient_approximate, float>);
    decode_binary(d, type, type, type,
                  flushes ? &binary<float, &quotient_ftz, float> : &binary<float, &quotient, float>);
}

void add_divide_operations(Operations& operations) {
    operations["rcp"] = &decode_root<Reciprocal>;
    operations["sqrt"] = &decode_root<Root>;
    operations["rsqrt"] = &decode_root<InverseRoot>;
}

void add_approximate_operations(Operations& operations) {
    operations["ex2"] = &decode_function<Exp2>;
    operations["lg2"] = &decode_function<Log2>;
    operations["sin"] = &decode_function<Sine>;
    operations["cos"] = &decode_function<Cosine>;
    operations["tanh"] = &decode_function<Tanh>;
}

}  // namespace sim::ptx
