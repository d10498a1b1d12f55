// Selection between two values: selp by a predicate, slct by a sign.
#include "sim/ptx/by_type.h"
#include "sim/ptx/float_bits.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

/// flag: the predicate is negated. A lane's result is undefined if its predicate or the value that it takes is.
template <class T> void select(Warp& warp, const Instruction& i, Lanes lanes) {
    T* d = row<T>(warp, i.d);
    const T *a = row<T>(warp, i.a), *b = row<T>(warp, i.b);
    const Lanes* p = row<Lanes>(warp, i.c);
    const Lanes first = i.flag ? ~*p : *p;
    const Lanes known = written(p) & ((written(a) & first) | (written(b) & ~first));
    alignas(32) T t[kLanes];
    for (unsigned l = 0; l < kLanes; ++l) t[l] = b[l];
    merge(t, a, first);
    if (lanes == kAll) {
        for (unsigned l = 0; l < kLanes; ++l) d[l] = t[l];
        written(d) = known;
        return;
    }
    merge(d, t, lanes);
    mark(d, lanes, known);
}

void decode_selp(Decoder& d) {
    const Type type = d.need_type();
    d.expect_operands(4);
    d.out.run = by_width(d, type, []<class T>() -> Handler { return &select<T>; });
    d.out.d = d.target(0, type), d.out.a = d.source(1, type), d.out.b = d.source(2, type);
    Operand p = d.operands[3];
    d.out.flag = p.negated;
    p.negated = false;
    d.out.c = d.source(p, Type::pred);
}

template <class T> T by_integer_sign(T a, T b, std::int32_t c) { return c >= 0 ? a : b; }
template <class T> T by_float_sign(T a, T b, float c) { return c >= 0 ? a : b; }
template <class T> T by_flushed_sign(T a, T b, float c) { return flushed(c) >= 0 ? a : b; }

void decode_slct(Decoder& d) {
    const bool flushes = d.take("ftz");
    const Type type = d.need_type(), by = d.need_type();
    if (by != Type::s32 && by != Type::f32) d.fail_type(by);
    Handler run =
        by == Type::s32
            ? by_width(d, type,
                       []<class T>() -> Handler { return &ternary<T, &by_integer_sign<T>, T, T, std::int32_t>; })
            : by_width(d, type, []<class T>() -> Handler { return &ternary<T, &by_float_sign<T>, T, T, float>; });
    if (flushes)
        run = by_width(d, type, []<class T>() -> Handler { return &ternary<T, &by_flushed_sign<T>, T, T, float>; });
    decode_ternary(d, type, type, type, by, run);
}

}  // namespace

void add_select_operations(Operations& operations) {
    operations["selp"] = &decode_selp;
    operations["slct"] = &decode_slct;
}

}  // namespace sim::ptx
