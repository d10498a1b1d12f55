// Matrix products on a GPU: cuBLAS (blas.h), and what cuBLAS cannot do (mixed types, empty sums). The arguments are
// those of Ops::matmul in kernels/ops.h.
#pragma once

#include "kernels/cuda/blas.h"

namespace longlora::cuda {

/// stream is that of blas. scratch: device memory for panels.
void matmul(cudaStream_t stream, Blas& blas, Tensor scratch, Tensor out, ConstTensor a, ConstTensor b, bool transpose_a,
            bool transpose_b, float alpha, float beta);

}  // namespace longlora::cuda
