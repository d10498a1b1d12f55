// Loads and stores: ld, st, ldu, prefetch and their vector forms, in all state spaces. The checks are in
// check_global.cpp, check_shared.cpp and check_local.cpp.
#include "sim/ptx/addresses.h"
#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

/// ld.param at a fixed place, which nearly every ld.param is: all lanes get the same value.
template <class M, class R> void load_parameter(Warp& warp, const Instruction& i, Lanes lanes) {
    const auto& bytes = warp.block->launch->parameters;
    std::uint64_t at = 0;
    std::memcpy(&at, warp.base[1] + (i.a & ~kConstant), sizeof at);
    at += static_cast<std::uint64_t>(i.offset);
    if (at + sizeof(M) * i.count > bytes.size() || at % (sizeof(M) * i.count) != 0)
        fault(warp, lanes,
              "reads byte " + std::to_string(at) + " of " + std::to_string(bytes.size()) + " bytes of parameters");
    const Row* rows = i.count == 1 ? &i.d : &warp.block->kernel->lists[i.list];
    for (unsigned e = 0; e < i.count; ++e) {
        M value;
        std::memcpy(&value, bytes.data() + at + e * sizeof(M), sizeof value);
        R* d = row<R>(warp, rows[e]);
        for (unsigned l = 0; l < kLanes; ++l) d[l] = lanes >> l & 1 ? static_cast<R>(value) : d[l];
        mark(d, lanes, kAll);
    }
}

/// The row of a value to store; a Fault if it was never written.
template <class Register> const Register* value_row(Warp& warp, Row at, Lanes lanes) {
    const Register* value = row<Register>(warp, at);
    if (const Lanes unknown = lanes & ~written(value)) fault(warp, unknown, "stores a register that was never written");
    return value;
}

/// Loads a vector of `count` elements of type M, each into a register of type R.
template <class M, class R, Space space> void load(Warp& warp, const Instruction& i, Lanes lanes) {
    Access access;
    access.lanes = lanes;
    access.bytes = static_cast<unsigned>(sizeof(M)) * i.count;
    find_addresses(warp, i, access);
    check_access(warp, i, access, space, Use::read);
    const Row* rows = i.count == 1 ? &i.d : &warp.block->kernel->lists[i.list];
    for (unsigned e = 0; e < i.count; ++e) {
        R* d = row<R>(warp, rows[e]);
        if (sizeof(M) == sizeof(R) && access.contiguous && i.count == 1) {
            std::memcpy(d, reinterpret_cast<const void*>(access.at[0]), sizeof(R) * kLanes);
        } else if (lanes == kAll) {
            for (unsigned l = 0; l < kLanes; ++l) {
                M value;
                std::memcpy(&value, reinterpret_cast<const char*>(access.at[l]) + e * sizeof(M), sizeof value);
                d[l] = static_cast<R>(value);
            }
        } else {
            for (Lanes left = lanes; left; left &= left - 1) {
                const unsigned l = static_cast<unsigned>(__builtin_ctz(left));
                M value;
                std::memcpy(&value, reinterpret_cast<const char*>(access.at[l]) + e * sizeof(M), sizeof value);
                d[l] = static_cast<R>(value);
            }
        }
        mark(d, lanes, kAll);
    }
}

/// Lanes of one store that write to the same place must write the same value.
template <class M, class R> void check_landed(Warp& warp, const Access& access, const R* value, unsigned element) {
    for (Lanes left = access.lanes; left; left &= left - 1) {
        const unsigned l = static_cast<unsigned>(__builtin_ctz(left));
        const M cut = static_cast<M>(value[l]);
        if (std::memcmp(reinterpret_cast<const char*>(access.at[l]) + element * sizeof(M), &cut, sizeof cut) != 0)
            fault(warp, 1u << l, "lanes of one store write different values to one place: race");
    }
}

template <class M, class R, Space space> void store(Warp& warp, const Instruction& i, Lanes lanes) {
    Access access;
    access.lanes = lanes;
    access.bytes = static_cast<unsigned>(sizeof(M)) * i.count;
    find_addresses(warp, i, access);
    const Row* rows = i.count == 1 ? &i.d : &warp.block->kernel->lists[i.list];
    for (unsigned e = 0; e < i.count; ++e) value_row<R>(warp, rows[e], lanes);
    check_access(warp, i, access, space, Use::write);
    for (unsigned e = 0; e < i.count; ++e) {
        const R* value = row<R>(warp, rows[e]);
        if (sizeof(M) == sizeof(R) && access.contiguous && i.count == 1) {
            std::memcpy(reinterpret_cast<void*>(access.at[0]), value, sizeof(R) * kLanes);
            continue;
        }
        for (Lanes left = lanes; left; left &= left - 1) {
            const unsigned l = static_cast<unsigned>(__builtin_ctz(left));
            const M cut = static_cast<M>(value[l]);
            std::memcpy(reinterpret_cast<char*>(access.at[l]) + e * sizeof(M), &cut, sizeof cut);
        }
    }
    if (access.contiguous || space == Space::local) return;
    for (unsigned e = 0; e < i.count; ++e) check_landed<M, R>(warp, access, row<R>(warp, rows[e]), e);
}

template <class M, class R> Handler by_space(const Decoder& d, Space space, bool stores) {
    if (space == Space::parameter && !stores && (d.out.a & kConstant)) return &load_parameter<M, R>;
    switch (space) {
        case Space::generic:
            return stores ? &store<M, R, Space::generic> : &load<M, R, Space::generic>;
        case Space::global:
            return stores ? &store<M, R, Space::global> : &load<M, R, Space::global>;
        case Space::shared:
            return stores ? &store<M, R, Space::shared> : &load<M, R, Space::shared>;
        case Space::local:
            return stores ? &store<M, R, Space::local> : &load<M, R, Space::local>;
        case Space::constant:
            if (stores) d.fail("constant memory is read only");
            return &load<M, R, Space::global>;
        case Space::parameter:
            if (stores) d.fail("parameters of an entry are read only");
            return &load<M, R, Space::parameter>;
    }
    return nullptr;
}

template <class M> Handler by_register(const Decoder& d, unsigned bytes, Space space, bool stores) {
    constexpr bool kSigned = std::is_signed_v<M>;
    if constexpr (sizeof(M) <= 2)
        if (bytes == 2) return by_space<M, std::conditional_t<kSigned, std::int16_t, std::uint16_t>>(d, space, stores);
    if constexpr (sizeof(M) <= 4)
        if (bytes == 4) return by_space<M, std::conditional_t<kSigned, std::int32_t, std::uint32_t>>(d, space, stores);
    if (bytes == 8) return by_space<M, std::conditional_t<kSigned, std::int64_t, std::uint64_t>>(d, space, stores);
    d.fail("the register is narrower than the type");
}

Handler by_types(const Decoder& d, Type type, unsigned bytes, Space space, bool stores) {
    switch (bytes_of(type)) {
        case 1:
            return type == Type::s8 && !stores ? by_register<std::int8_t>(d, bytes, space, stores)
                                               : by_register<std::uint8_t>(d, bytes, space, stores);
        case 2:
            return type == Type::s16 && !stores ? by_register<std::int16_t>(d, bytes, space, stores)
                                                : by_register<std::uint16_t>(d, bytes, space, stores);
        case 4:
            return type == Type::s32 && !stores ? by_register<std::int32_t>(d, bytes, space, stores)
                                                : by_register<std::uint32_t>(d, bytes, space, stores);
        case 8:
            return by_register<std::uint64_t>(d, bytes, space, stores);
        default:
            d.fail_type(type);
    }
}

/// Takes modifiers that change no value here, since this machine runs in order: order and scope, which decide what is a
/// race, and hints for caches.
void take_hints(Decoder& d) {
    const std::string_view order = d.take_any({"weak", "volatile", "relaxed", "acquire", "release", "mmio"}),
                           scope = d.take_any({"cta", "cluster", "gpu", "sys"});
    if (!order.empty() && order != "weak" && scope != "cta") d.out.target = kStrong;
    if (d.take("nc")) d.out.target = kNonCoherent;
    d.take_any({"ca", "cg", "cs", "cv", "lu", "wb", "wt"});
    d.take_any({"L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last", "L1::no_allocate"});
    d.take_any({"L2::evict_normal", "L2::evict_first", "L2::evict_last"});
    d.take_any({"L2::64B", "L2::128B", "L2::256B"});
}

Type bits_type(unsigned bytes) { return bytes == 2 ? Type::b16 : bytes == 4 ? Type::b32 : Type::b64; }

void decode_memory(Decoder& d) {
    const bool stores = d.name == "st";
    take_hints(d);
    Space space = take_space(d);
    const std::string_view vector = d.take_any({"v2", "v4"});
    const Type type = d.need_type();
    d.expect_operands(2);
    const std::size_t place = stores ? 0 : 1;
    d.address(place);
    const Operand& base = d.operands[place].elements.at(0);
    // Parameters of functions are local memory of the caller; parameters of the entry belong to the launch.
    if (space == Space::parameter && base.kind == Operand::Kind::symbol && base.symbol.kind == Symbol::Kind::local)
        space = Space::local;
    const Operand& value = d.operands[1 - place];
    const std::size_t count = value.kind == Operand::Kind::vector ? value.elements.size() : 1;
    if (count != (vector.empty() ? 1u : vector == "v2" ? 2u : 4u))
        d.fail("the vector has too few or too many elements");
    const Operand& first = value.kind == Operand::Kind::vector ? value.elements.at(0) : value;
    const unsigned bytes =
        first.kind == Operand::Kind::reg ? bytes_of(first.symbol.type) : std::max(2u, bytes_of(type));
    d.out.run = by_types(d, type, bytes, space, stores);
    d.out.count = static_cast<std::uint8_t>(count);
    const Type wide = bytes == 4 && type == Type::f32   ? type
                      : bytes == 8 && type == Type::f64 ? type
                                                        : bits_type(bytes);
    const std::vector<Row> rows = d.rows(value, wide, !stores);
    if (count == 1) d.out.d = rows[0];
    else d.out.list = d.list(rows);
}

void decode_prefetch(Decoder& d) {  // has no effect
    take_space(d);
    d.take_any({"L1", "L2"});
    d.take_any({"L2::evict_last", "L2::evict_normal"});
    d.expect_operands(1);
}

}  // namespace

void add_memory_operations(Operations& operations) {
    operations["ld"] = operations["ldu"] = operations["st"] = &decode_memory;
    operations["prefetch"] = operations["prefetchu"] = &decode_prefetch;
}

}  // namespace sim::ptx
