// Shifts: shl, shr and the funnel shift. Amounts beyond the width count as the width.
#include "sim/ptx/by_type.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

template <class T> T left(T a, std::uint32_t amount) {
    return amount >= 8 * sizeof(T) ? T(0) : static_cast<T>(a << (amount & (8 * sizeof(T) - 1)));
}
template <class T> T right(T a, std::uint32_t amount) {
    constexpr std::uint32_t kTop = 8 * sizeof(T) - 1;
    if constexpr (std::is_signed_v<T>) return static_cast<T>(a >> (amount > kTop ? kTop : amount));
    return amount > kTop ? T(0) : static_cast<T>(a >> (amount & kTop));
}

/// shr by a constant of 32 or more: only the upper half of the operand matters.
template <class T> void right_of_upper(Warp& warp, const Instruction& i, Lanes lanes) {
    const T* a = row<T>(warp, i.a);
    const auto amount = *row<std::uint32_t>(warp, i.b);
    const Lanes known = written(a) | half_written(a, 1);
    alignas(32) T t[kLanes];
    for (unsigned l = 0; l < kLanes; ++l) t[l] = right<T>(a[l], amount);
    T* d = row<T>(warp, i.d);
    merge(d, t, lanes);
    mark(d, lanes, known);
}

void decode_shift(Decoder& d) {
    const Type type = d.need_type();
    const bool to_left = d.name == "shl";
    if (d.operands.size() == 3 && !to_left && bytes_of(type) == 8 && d.operands[2].kind == Operand::Kind::immediate &&
        d.operands[2].value >= 32 && d.operands[2].value < 64)
        return decode_binary(d, type, type, Type::u32,
                             type == Type::s64 ? &right_of_upper<std::int64_t> : &right_of_upper<std::uint64_t>);
    decode_binary(
        d, type, type, Type::u32,
        to_left ? by_width(d, type, []<class T>() -> Handler { return &binary<T, &left<T>, T, std::uint32_t>; })
                : by_integer(d, type, []<class T>() -> Handler { return &binary<T, &right<T>, T, std::uint32_t>; }));
}

/// shf: shifts the 64 bits b:a; .l gives the upper word, .r the lower one.
template <bool to_left, bool wraps> std::uint32_t funnel(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    const std::uint32_t amount = wraps ? c & 31 : (c > 32 ? 32 : c);
    const std::uint64_t both = std::uint64_t{b} << 32 | a;
    return static_cast<std::uint32_t>(to_left ? (both << amount) >> 32 : both >> amount);
}

void decode_funnel(Decoder& d) {
    const bool to_left = d.take("l");
    if (!to_left && !d.take("r")) d.fail("shf needs .l or .r");
    const bool wraps = d.take("wrap");
    if (!wraps && !d.take("clamp")) d.fail("shf needs .wrap or .clamp");
    const Type type = d.need_type();
    if (type != Type::b32) d.fail_type(type);
    using U = std::uint32_t;
    decode_ternary(d, type, type, type, Type::u32,
                   to_left ? (wraps ? &ternary<U, &funnel<true, true>, U> : &ternary<U, &funnel<true, false>, U>)
                           : (wraps ? &ternary<U, &funnel<false, true>, U> : &ternary<U, &funnel<false, false>, U>));
}

}  // namespace

void add_shift_operations(Operations& operations) {
    operations["shl"] = operations["shr"] = &decode_shift;
    operations["shf"] = &decode_funnel;
}

}  // namespace sim::ptx
