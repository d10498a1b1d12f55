// Atomic operations: atom and red, in global, shared and generic memory. Lanes run one after another, in the order of
// their numbers.
#include <bit>
#include <type_traits>

#include "sim/ptx/addresses.h"
#include "sim/ptx/float_bits.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

struct Add {
    template <class T> static T f(T old, T b, T) {
        if constexpr (std::is_integral_v<T>)
            return static_cast<T>(std::make_unsigned_t<T>(old) + std::make_unsigned_t<T>(b));
        else return old + b;
    }
};
struct Min {
    template <class T> static T f(T old, T b, T) { return b < old ? b : old; }
};
struct Max {
    template <class T> static T f(T old, T b, T) { return b > old ? b : old; }
};
struct And {
    template <class T> static T f(T old, T b, T) { return old & b; }
};
struct Or {
    template <class T> static T f(T old, T b, T) { return old | b; }
};
struct Xor {
    template <class T> static T f(T old, T b, T) { return old ^ b; }
};
struct Exchange {
    template <class T> static T f(T, T b, T) { return b; }
};
struct Compare {
    template <class T> static T f(T old, T b, T c) { return old == b ? c : old; }
};
struct Increment {
    template <class T> static T f(T old, T b, T) { return old >= b ? T(0) : T(old + 1); }
};
struct Decrement {
    template <class T> static T f(T old, T b, T) { return old == 0 || old > b ? b : T(old - 1); }
};
/// Adds one half, or the two halves of a word separately.
template <class F> struct AddHalf {
    template <class T> static T f(T old, T b, T) {
        T result = 0;
        for (unsigned k = 0; k < sizeof(T) / 2; ++k) {
            const float sum =
                F::widen(static_cast<std::uint16_t>(old >> 16 * k)) + F::widen(static_cast<std::uint16_t>(b >> 16 * k));
            result = static_cast<T>(result | T(F::narrow(sum)) << 16 * k);
        }
        return result;
    }
};

/// d: the old value (or none); a: address; b, c: operands; target: the state space.
template <class T, class Op> void atomic(Warp& warp, const Instruction& i, Lanes lanes) {
    Access access;
    access.lanes = lanes;
    access.bytes = sizeof(T);
    find_addresses(warp, i, access);
    const T* b = row<T>(warp, i.b);
    const T* c = i.c == kNoRow ? b : row<T>(warp, i.c);
    if (const Lanes unknown = lanes & ~(written(b) & written(c))) fault(warp, unknown, "an operand was never written");
    check_access(warp, i, access, static_cast<Space>(i.target), Use::atomic);
    alignas(32) T t[kLanes] = {};
    for (Lanes left = lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(std::countr_zero(left));
        T old;
        std::memcpy(&old, reinterpret_cast<const void*>(access.at[l]), sizeof old);
        t[l] = old;
        const T next = Op::f(old, b[l], c[l]);
        std::memcpy(reinterpret_cast<void*>(access.at[l]), &next, sizeof next);
    }
    if (i.d == kNoRow) return;
    T* d = row<T>(warp, i.d);
    merge(d, t, lanes);
    mark(d, lanes, kAll);
}

template <class Op> Handler for_bits(const Decoder& d, Type type) {
    if (bytes_of(type) == 2) return &atomic<std::uint16_t, Op>;
    if (bytes_of(type) == 4) return &atomic<std::uint32_t, Op>;
    if (bytes_of(type) == 8) return &atomic<std::uint64_t, Op>;
    d.fail_type(type);
}

template <class Op> Handler for_numbers(const Decoder& d, Type type) {
    switch (type) {
        case Type::u32:
            return &atomic<std::uint32_t, Op>;
        case Type::s32:
            return &atomic<std::int32_t, Op>;
        case Type::u64:
            return &atomic<std::uint64_t, Op>;
        case Type::s64:
            return &atomic<std::int64_t, Op>;
        default:
            d.fail_type(type);
    }
}

Handler adder(const Decoder& d, Type type) {
    switch (type) {
        case Type::f32:
            return &atomic<float, Add>;
        case Type::f64:
            return &atomic<double, Add>;
        case Type::f16:
            return &atomic<std::uint16_t, AddHalf<F16>>;
        case Type::bf16:
            return &atomic<std::uint16_t, AddHalf<Bf16>>;
        case Type::f16x2:
            return &atomic<std::uint32_t, AddHalf<F16>>;
        case Type::bf16x2:
            return &atomic<std::uint32_t, AddHalf<Bf16>>;
        default:
            return for_numbers<Add>(d, type);
    }
}

Handler chosen(const Decoder& d, std::string_view what, Type type) {
    if (what == "add") return adder(d, type);
    if (what == "min") return for_numbers<Min>(d, type);
    if (what == "max") return for_numbers<Max>(d, type);
    if (what == "exch") return for_bits<Exchange>(d, type);
    if (what == "cas") return for_bits<Compare>(d, type);
    if (what == "inc" || what == "dec") {
        if (type != Type::u32) d.fail_type(type);
        return what == "inc" ? &atomic<std::uint32_t, Increment> : &atomic<std::uint32_t, Decrement>;
    }
    if (type != Type::b32 && type != Type::b64) d.fail_type(type);
    if (what == "and") return for_bits<And>(d, type);
    if (what == "or") return for_bits<Or>(d, type);
    if (what == "xor") return for_bits<Xor>(d, type);
    d.fail("an atomic operation is missing");
}

void decode_atomic(Decoder& d) {
    const bool returns = d.name == "atom";
    d.take_any({"relaxed", "acquire", "release", "acq_rel"});
    d.take_any({"cta", "cluster", "gpu", "sys"});
    const Space space = take_space(d);
    if (space != Space::generic && space != Space::global && space != Space::shared)
        d.fail("atomics are in global and shared memory only");
    const std::string_view what = d.take_any({"add", "min", "max", "exch", "cas", "and", "or", "xor", "inc", "dec"});
    d.take("noftz");
    const Type type = d.need_type();
    d.out.run = chosen(d, what, type);
    const std::size_t first = returns ? 1 : 0;
    d.expect_operands(first + (what == "cas" ? 3 : 2));
    if (returns) d.out.d = d.target(0, type);
    d.address(first);
    d.out.b = d.source(first + 1, type);
    if (what == "cas") d.out.c = d.source(first + 2, type);
    d.out.target = static_cast<std::uint32_t>(space);
}

}  // namespace

void add_atomic_operations(Operations& operations) { operations["atom"] = operations["red"] = &decode_atomic; }

}  // namespace sim::ptx
