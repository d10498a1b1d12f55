// NcclTypes: the tables of types, and the reductions.
#include "sim/runtime/nccl_types.h"

#include <algorithm>
#include <bit>
#include <cstdint>

namespace sim::runtime {
namespace {

struct Type {
    std::size_t bytes;
    const char* name;
};
constexpr Type kTypes[] = {{1, "int8"},    {1, "uint8"},    {4, "int32"},       {4, "uint32"},
                           {8, "int64"},   {8, "uint64"},   {2, "float16"},     {4, "float32"},
                           {8, "float64"}, {2, "bfloat16"}, {1, "float8_e4m3"}, {1, "float8_e5m2"}};
constexpr const char* kOperations[] = {"sum", "product", "maximum", "minimum", "average"};

/// bfloat16 as it lies in memory.
struct Bfloat16 {
    std::uint16_t bits;
};
template <class T> T load(T value) { return value; }
float load(Bfloat16 value) { return std::bit_cast<float>(std::uint32_t{value.bits} << 16); }
template <class T> void store(T value, T& to) { to = value; }
void store(float value, Bfloat16& to) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    to.bits = static_cast<std::uint16_t>(
        (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

template <class T> T combine(T a, T b, ncclRedOp_t operation) {
    switch (operation) {
        case ncclProd:
            return static_cast<T>(a * b);
        case ncclMax:
            return std::max(a, b);
        case ncclMin:
            return std::min(a, b);
        default:
            return static_cast<T>(a + b);  // an average is divided at the end
    }
}

template <class Stored>
void reduce_as(std::byte* to, std::span<const std::byte* const> parts, std::size_t count, ncclRedOp_t operation) {
    for (std::size_t i = 0; i < count; ++i) {
        auto value = load(reinterpret_cast<const Stored*>(parts[0])[i]);
        using Sum = decltype(value);
        for (std::size_t part = 1; part < parts.size(); ++part)
            value = combine<Sum>(value, load(reinterpret_cast<const Stored*>(parts[part])[i]), operation);
        if (operation == ncclAvg) value = static_cast<Sum>(value / static_cast<Sum>(parts.size()));
        store(value, reinterpret_cast<Stored*>(to)[i]);
    }
}

}  // namespace

std::size_t bytes_of(ncclDataType_t type) { return type >= 0 && type < ncclNumTypes ? kTypes[type].bytes : 0; }
std::string name_of(ncclDataType_t type) { return bytes_of(type) ? kTypes[type].name : "unknown type"; }
std::string name_of(ncclRedOp_t operation) {
    return operation >= 0 && operation < ncclNumOps ? kOperations[operation] : "unknown reduction";
}

bool can_reduce(ncclDataType_t type, ncclRedOp_t operation) {
    return bytes_of(type) && type != ncclFloat16 && type != ncclFloat8e4m3 && type != ncclFloat8e5m2 &&
           operation >= 0 && operation < ncclNumOps;
}

void reduce(std::byte* to, std::span<const std::byte* const> parts, std::size_t count, ncclDataType_t type,
            ncclRedOp_t operation) {
    switch (type) {
        case ncclInt8:
            return reduce_as<std::int8_t>(to, parts, count, operation);
        case ncclUint8:
            return reduce_as<std::uint8_t>(to, parts, count, operation);
        case ncclInt32:
            return reduce_as<std::int32_t>(to, parts, count, operation);
        case ncclUint32:
            return reduce_as<std::uint32_t>(to, parts, count, operation);
        case ncclInt64:
            return reduce_as<std::int64_t>(to, parts, count, operation);
        case ncclUint64:
            return reduce_as<std::uint64_t>(to, parts, count, operation);
        case ncclFloat32:
            return reduce_as<float>(to, parts, count, operation);
        case ncclFloat64:
            return reduce_as<double>(to, parts, count, operation);
        case ncclBfloat16:
            return reduce_as<Bfloat16>(to, parts, count, operation);
        default:
            return;  // refused by can_reduce
    }
}

}  // namespace sim::runtime
