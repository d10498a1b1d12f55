// Matrix products on a GPU: cuBLAS, with what it cannot do around it (mixed types, empty sums). Arguments as in ops.h.
#pragma once

#include "kernels/cuda/blas.h"

namespace longlora::cuda {

/// stream is that of blas. scratch: device memory for panels.
void matmul(cudaStream_t stream, Blas& blas, Tensor scratch, Tensor out, ConstTensor a, ConstTensor b, bool transpose_a,
            bool transpose_b, float alpha, float beta);

}  // namespace longlora::cuda
