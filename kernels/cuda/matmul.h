// Matrix products on a GPU: cuBLAS (blas.h), and around it what cuBLAS cannot do: mixed types and empty sums. The
// arguments are those of Ops::matmul in kernels/ops.h.
#pragma once

#include "kernels/cuda/blas.h"

namespace longlora::cuda {

/// stream must be the stream of blas. scratch is device memory for float32 panels.
void matmul(cudaStream_t stream, Blas& blas, Tensor scratch, Tensor out, ConstTensor a, ConstTensor b, bool transpose_a,
            bool transpose_b, float alpha, float beta);

}  // namespace longlora::cuda
