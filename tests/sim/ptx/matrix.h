// Tensor-core instructions: parts of the table of operations.
#pragma once

#include "sim/ptx/decoder.h"

namespace sim::ptx {

void add_ldmatrix_operations(Operations& operations);

}  // namespace sim::ptx
