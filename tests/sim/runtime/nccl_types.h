// NcclTypes: the sizes and names of NCCL's element types, and reductions of them in rank order.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <span>
#include <string>

namespace sim::runtime {

/// Bytes of an element; 0: no such type.
std::size_t bytes_of(ncclDataType_t type);
std::string name_of(ncclDataType_t type);
/// "sum", "max" ...
std::string name_of(ncclRedOp_t operation);
bool can_reduce(ncclDataType_t type, ncclRedOp_t operation);

/// to[i] = parts[0][i] (op) parts[1][i] ..., in that order. bf16 and fp32 are reduced in fp32 and rounded once, fp64 in
/// fp64, integers in their own type. `to` may be one of the parts.
void reduce(std::byte* to, std::span<const std::byte* const> parts, std::size_t count, ncclDataType_t type,
            ncclRedOp_t operation);

}  // namespace sim::runtime
