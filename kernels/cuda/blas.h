// Blas: cuBLAS on one stream, with a workspace that the caller provides. cuBLAS is loaded when a device is made, so
// that the program also runs where cuBLAS is not installed. Mixed types and empty sums are in matmul.h.
#pragma once

#include <cublas_v2.h>

#include <memory>

#include "core/tensor.h"
#include "kernels/cuda/shared_library.h"

namespace longlora::cuda {

class Blas {
public:
    /// workspace: 256-byte aligned device memory that only this object uses. cuBLAS is deterministic with one stream
    /// and its own workspace: the same GPU, shapes and alignment of addresses give the same bits.
    Blas(cudaStream_t stream, Tensor workspace);

    /// out = alpha * op(a) op(b) + beta * out.
    /// The matrices are row-major and may have row strides. All are float32, or a and b are bfloat16 and out has
    /// either type. No side is empty. Sums are in float32 and never in TF32; out is rounded once.
    void gemm(const Tensor& out, const ConstTensor& a, const ConstTensor& b, bool transpose_a, bool transpose_b,
              float alpha, float beta);

private:
    void check(cublasStatus_t status, const char* call) const;

    SharedLibrary library_;
    decltype(&cublasCreate_v2) create_;
    decltype(&cublasDestroy_v2) destroy_;
    decltype(&cublasSetStream_v2) set_stream_;
    decltype(&cublasSetWorkspace_v2) set_workspace_;
    decltype(&cublasSetMathMode) set_math_mode_;
    decltype(&cublasGetStatusString) status_string_;
    cublasStatus_t (*gemm_ex_)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                               const void*, cudaDataType, int, const void*, cudaDataType, int, const void*, void*,
                               cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);
    std::unique_ptr<std::remove_pointer_t<cublasHandle_t>, decltype(&cublasDestroy_v2)> handle_;
};

}  // namespace longlora::cuda
