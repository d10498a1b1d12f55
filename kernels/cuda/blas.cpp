// cuBLAS is column-major and sees a row-major matrix as its transpose. So gemm() asks for
// out^T = op(b)^T op(a)^T, with row strides as leading dimensions.
#include "kernels/cuda/blas.h"

#include <limits>

namespace longlora::cuda {
namespace {

int to_int(std::int64_t size) {
    ensure(size >= 0 && size <= std::numeric_limits<int>::max(), "a side of a matrix is too large for cuBLAS");
    return static_cast<int>(size);
}

cudaDataType type_of(const ConstTensor& t) { return t.dtype == DType::bfloat16 ? CUDA_R_16BF : CUDA_R_32F; }
int leading(const ConstTensor& t) {
    return to_int(std::max(t.row_stride, t.width()));
}  // a single row may have any stride

}  // namespace

Blas::Blas(cudaStream_t stream, Tensor workspace)
    : library_(text("libcublas.so.", CUBLAS_VER_MAJOR)),
      create_(library_.function<decltype(cublasCreate_v2)>("cublasCreate_v2")),
      destroy_(library_.function<decltype(cublasDestroy_v2)>("cublasDestroy_v2")),
      set_stream_(library_.function<decltype(cublasSetStream_v2)>("cublasSetStream_v2")),
      set_workspace_(library_.function<decltype(cublasSetWorkspace_v2)>("cublasSetWorkspace_v2")),
      set_math_mode_(library_.function<decltype(cublasSetMathMode)>("cublasSetMathMode")),
      status_string_(library_.function<decltype(cublasGetStatusString)>("cublasGetStatusString")),
      gemm_ex_(library_.function<std::remove_pointer_t<decltype(gemm_ex_)>>("cublasGemmEx")),
      handle_(nullptr, destroy_) {
    cublasHandle_t handle = nullptr;
    check(create_(&handle), "cublasCreate");
    handle_.reset(handle);
    check(set_stream_(handle, stream), "cublasSetStream");  // first, since it resets the workspace
    check(set_workspace_(handle, workspace.bytes, workspace.size_bytes()), "cublasSetWorkspace");
    // In the default mode CUBLAS_COMPUTE_32F multiplies float32 as float32, not as TF32. The other flag makes cuBLAS
    // add partial sums in float32 even where out is bfloat16.
    check(set_math_mode_(handle, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                                           CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
          "cublasSetMathMode");
}

void Blas::check(cublasStatus_t status, const char* call) const {
    if (status != CUBLAS_STATUS_SUCCESS)
        fail(text(call, " failed: ", status_string_(status), " (", static_cast<int>(status), ")"),
             ExitCode::communication);
}

void Blas::gemm(const Tensor& out, const ConstTensor& a, const ConstTensor& b, bool transpose_a, bool transpose_b,
                float alpha, float beta) {
    ensure(a.dtype == b.dtype && (a.dtype == DType::bfloat16 || out.dtype == DType::float32),
           "cuBLAS has no product of these types");
    const int m = to_int(out.shape[0]), n = to_int(out.shape[1]), k = to_int(a.shape[transpose_a ? 0 : 1]);
    check(gemm_ex_(handle_.get(), transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, n,
                   m, k, &alpha, b.bytes, type_of(b), leading(b), a.bytes, type_of(a), leading(a), &beta, out.bytes,
                   type_of(out), leading(out), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
}

}  // namespace longlora::cuda
