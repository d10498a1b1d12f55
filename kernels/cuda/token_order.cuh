// Sorts tokens by the row of the table that they name; tokens of one row keep their own order. embedding_backward adds
// gradients in this order. This is not a sort for other data.
#pragma once

#include "core/tensor.h"
#include "kernels/cuda/cuda_check.h"

namespace longlora::cuda {

/// The row of the table in the upper half, the token in the lower half. All keys differ, and sorted keys are in the
/// order that is wanted.
using Key = unsigned long long;
inline __device__ unsigned row_of(Key key) { return static_cast<unsigned>(key >> 32); }
inline __device__ unsigned token_of(Key key) { return static_cast<unsigned>(key); }

/// Returns the sorted keys of ids (int32, at most 2^30). They lie in scratch, which has room for 2 * ids.count() keys.
const Key* tokens_in_order(cudaStream_t stream, const Tensor& scratch, const ConstTensor& ids);

}  // namespace longlora::cuda
