// Tokens in the order of the rows of the table that they name, and of one row in their own order: what a gradient that
// many tokens add to goes by. Not a sort of anything else.
#pragma once

#include "core/tensor.h"
#include "kernels/cuda/cuda_check.h"

namespace longlora::cuda {

/// Row of the table above, token below: all different, in the order wanted.
using Key = unsigned long long;
inline __device__ unsigned row_of(Key key) { return static_cast<unsigned>(key >> 32); }
inline __device__ unsigned token_of(Key key) { return static_cast<unsigned>(key); }

/// The keys of ids (int32, at most 2^30) in order, in scratch, which has two pieces of ids.count() keys.
const Key* tokens_in_order(cudaStream_t stream, const Tensor& scratch, const ConstTensor& ids);

}  // namespace longlora::cuda
