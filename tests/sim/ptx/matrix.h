// Tensor-core instructions: parts of the table of operations.
#pragma once

#include "sim/ptx/decoder.h"

namespace sim::ptx {

void add_ldmatrix_operations(Operations& operations);
void add_wmma_operations(Operations& operations);
/// mma of bytes with s32 sums, its modifiers up to the types read already.
void decode_integer_mma(Decoder& decoder, std::string_view shape, Type a, Type b);

}  // namespace sim::ptx
