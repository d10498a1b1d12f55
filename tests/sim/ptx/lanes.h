// Runs one scalar function for all lanes of a warp, in loops that the compiler turns into vector code. A result from
// undefined sources is undefined too: the header of a row says which lanes were computed from written values alone.
#pragma once

#include <cstring>
#include <type_traits>

#include "sim/ptx/decoder.h"
#include "sim/ptx/warp.h"

namespace sim::ptx {

/// Copies the given lanes of `from` into `to`.
template <class T> inline void merge(T* __restrict to, const T* __restrict from, Lanes lanes) {
    if constexpr (sizeof(T) == 8) {
#pragma omp simd
        for (unsigned l = 0; l < kLanes; ++l) to[l] = std::uint64_t{lanes} >> l & 1 ? from[l] : to[l];
    } else {
#pragma omp simd
        for (unsigned l = 0; l < kLanes; ++l) to[l] = lanes >> l & 1 ? from[l] : to[l];
    }
}

inline void mark(void* to, Lanes lanes, Lanes known) { written(to) = (written(to) & ~lanes) | (known & lanes); }

/// d = f(sources) for the given lanes; sources and d may be the same rows. f also runs for the other lanes, so it must
/// not trap, whatever they hold.
template <class D, auto f, class A> void unary(Warp& warp, const Instruction& i, Lanes lanes) {
    D* d = row<D>(warp, i.d);
    const A* a = row<A>(warp, i.a);
    const Lanes known = written(a);
    if (lanes == kAll) {
#pragma omp simd
        for (unsigned l = 0; l < kLanes; ++l) d[l] = f(a[l]);
        written(d) = known;
        return;
    }
    alignas(32) D t[kLanes];
#pragma omp simd
    for (unsigned l = 0; l < kLanes; ++l) t[l] = f(a[l]);
    merge(d, t, lanes);
    mark(d, lanes, known);
}

template <class D, auto f, class A, class B = A> void binary(Warp& warp, const Instruction& i, Lanes lanes) {
    D* d = row<D>(warp, i.d);
    const A* a = row<A>(warp, i.a);
    const B* b = row<B>(warp, i.b);
    const Lanes known = written(a) & written(b);
    if (lanes == kAll) {
#pragma omp simd
        for (unsigned l = 0; l < kLanes; ++l) d[l] = f(a[l], b[l]);
        written(d) = known;
        return;
    }
    alignas(32) D t[kLanes];
#pragma omp simd
    for (unsigned l = 0; l < kLanes; ++l) t[l] = f(a[l], b[l]);
    merge(d, t, lanes);
    mark(d, lanes, known);
}

template <class D, auto f, class A, class B = A, class C = B>
void ternary(Warp& warp, const Instruction& i, Lanes lanes) {
    D* d = row<D>(warp, i.d);
    const A* a = row<A>(warp, i.a);
    const B* b = row<B>(warp, i.b);
    const C* c = row<C>(warp, i.c);
    const Lanes known = written(a) & written(b) & written(c);
    if (lanes == kAll) {
#pragma omp simd
        for (unsigned l = 0; l < kLanes; ++l) d[l] = f(a[l], b[l], c[l]);
        written(d) = known;
        return;
    }
    alignas(32) D t[kLanes];
#pragma omp simd
    for (unsigned l = 0; l < kLanes; ++l) t[l] = f(a[l], b[l], c[l]);
    merge(d, t, lanes);
    mark(d, lanes, known);
}

template <class D, auto f, class A, class B, class C, class E>
void quaternary(Warp& warp, const Instruction& i, Lanes lanes) {
    D* d = row<D>(warp, i.d);
    const A* a = row<A>(warp, i.a);
    const B* b = row<B>(warp, i.b);
    const C* c = row<C>(warp, i.c);
    const E* e = row<E>(warp, i.e);
    alignas(32) D t[kLanes];
    for (unsigned l = 0; l < kLanes; ++l) t[l] = f(a[l], b[l], c[l], e[l]);
    const Lanes known = written(a) & written(b) & written(c) & written(e);
    merge(d, t, lanes);
    mark(d, lanes, known);
}

/// A predicate row.
inline Lanes& predicate(Warp& warp, Row at) { return *row<Lanes>(warp, at); }
inline void set_predicate(Warp& warp, Row at, Lanes lanes, Lanes values, Lanes known) {
    if (at == kNoRow) return;
    Lanes& p = predicate(warp, at);
    p = (p & ~lanes) | (values & lanes);
    mark(&p, lanes, known);
}

/// Decode "op d, a", "op d, a, b" and "op d, a, b, c".
inline void decode_unary(Decoder& d, Type to, Type from, Handler run) {
    d.expect_operands(2);
    d.out.run = run;
    d.out.d = d.target(0, to);
    d.out.a = d.source(1, from);
}
inline void decode_binary(Decoder& d, Type to, Type a, Type b, Handler run) {
    d.expect_operands(3);
    d.out.run = run;
    d.out.d = d.target(0, to);
    d.out.a = d.source(1, a);
    d.out.b = d.source(2, b);
}
inline void decode_ternary(Decoder& d, Type to, Type a, Type b, Type c, Handler run) {
    d.expect_operands(4);
    d.out.run = run;
    d.out.d = d.target(0, to);
    d.out.a = d.source(1, a);
    d.out.b = d.source(2, b);
    d.out.c = d.source(3, c);
}

}  // namespace sim::ptx
