// Tensor-core instructions: the parts that matrix.cpp calls. They add ldmatrix and wmma to the table of operations, and
// decode mma of bytes.
#pragma once

#include "sim/ptx/decoder.h"

namespace sim::ptx {

void add_ldmatrix_operations(Operations& operations);
void add_wmma_operations(Operations& operations);
/// Decodes mma of bytes with s32 sums; the caller has taken the modifiers up to and including the types.
void decode_integer_mma(Decoder& decoder, std::string_view shape, Type a, Type b);

}  // namespace sim::ptx
