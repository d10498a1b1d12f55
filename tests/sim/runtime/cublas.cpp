// cuBLAS: handles, and gemms of bf16 and fp32 with fp32 sums, which are queued on the handle's stream. Calls that the
// real library refuses are refused. Features that this project must not use (TF32, memory allocated by the library) are
// errors.
#include <cublas_v2.h>

#include <cstring>
#include <optional>
#include <vector>

#include "sim/runtime/device.h"
#include "sim/runtime/gemm.h"
#include "sim/runtime/memory.h"
#include "sim/runtime/mutation.h"
#include "sim/runtime/process.h"
#include "sim/runtime/queue.h"
#include "sim/runtime/totals.h"

using namespace sim::runtime;

/// A handle; the real header declares the type without defining it.
struct cublasContext {
    int device = 0;
    cudaStream_t stream = nullptr;
    std::byte* workspace = nullptr;
    std::size_t workspace_bytes = 0;
    bool workspace_set = false;  ///< since the last cublasSetStream, which resets it
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
    cublasAtomicsMode_t atomics = CUBLAS_ATOMICS_NOT_ALLOWED;
};

namespace {

std::vector<cublasContext*>& handles() {
    static auto* const all = new std::vector<cublasContext*>;
    return *all;
}

bool is_handle(cublasHandle_t handle) {
    for (const cublasContext* known : handles())
        if (known == handle) return true;
    return false;
}

/// The body of every function: like call() of process.h, with a handle that must exist.
template <class Body> cublasStatus_t with(cublasHandle_t handle, Body&& body) {
    const std::lock_guard hold(api_lock());
    if (!is_handle(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    try {
        return body();
    } catch (const std::exception& error) {
        end_with(error);
    }
}

struct Product {
    std::int64_t m = 0, n = 0, k = 0;
    float alpha = 0, beta = 0;
    Matrix a, b, c;
    bool reads_factors() const { return alpha != 0 && k != 0; }
};

std::optional<Element> element_of(cudaDataType type) {
    if (type == CUDA_R_32F) return Element::float32;
    if (type == CUDA_R_16BF) return Element::bfloat16;
    return std::nullopt;
}

/// The numbers of rows and columns as stored.
std::int64_t rows_of(const Matrix& x, std::int64_t rows, std::int64_t columns) { return x.transposed ? columns : rows; }
std::int64_t columns_of(const Matrix& x, std::int64_t rows, std::int64_t columns) {
    return x.transposed ? rows : columns;
}

template <class Visit> void for_columns(const Matrix& x, std::int64_t rows, std::int64_t columns, Visit&& visit) {
    const std::int64_t size = bytes_of(x.element), height = rows_of(x, rows, columns),
                       width = columns_of(x, rows, columns);
    auto* begin = static_cast<std::byte*>(x.data);
    if (x.leading == height) return visit(begin, static_cast<std::size_t>(height * width * size));
    for (std::int64_t column = 0; column < width; ++column)
        visit(begin + column * x.leading * size, static_cast<std::size_t>(height * size));
}

void require_matrix(const Matrix& x, std::int64_t rows, std::int64_t columns, int device, const char* name) {
    const std::int64_t height = rows_of(x, rows, columns), width = columns_of(x, rows, columns);
    if (!height || !width) return;
    require_device(x.data, static_cast<std::size_t>(((width - 1) * x.leading + height) * bytes_of(x.element)), device,
                   "cublasGemmEx", name);
    if (reinterpret_cast<std::uintptr_t>(x.data) % static_cast<std::uintptr_t>(bytes_of(x.element)) != 0)
        misuse("cublasGemmEx: ", name, " is not aligned to its elements");
}

/// Throws Misuse if C shares a byte with a factor. The columns of C may lie between the columns of the factor.
void require_apart(const Matrix& x, std::int64_t rows, std::int64_t columns, const Product& p, const char* name) {
    const auto stored = [](const Matrix& matrix, std::int64_t height, std::int64_t width) {
        const auto size = static_cast<std::size_t>(bytes_of(matrix.element));
        return Rows{static_cast<const std::byte*>(matrix.data), static_cast<std::size_t>(matrix.leading) * size,
                    static_cast<std::size_t>(height) * size, static_cast<std::size_t>(width)};
    };
    const Rows factor = stored(x, rows_of(x, rows, columns), columns_of(x, rows, columns));
    if (overlap(factor, stored(p.c, p.m, p.n))) misuse("cublasGemmEx: C overlaps ", name, ", which is undefined");
}

/// Overwrites the ends of the workspace, which is cheap: the real library may use all of it at any time, so data that a
/// program keeps there are lost.
void spoil(std::byte* workspace, std::size_t bytes) {
    const std::size_t end = std::min<std::size_t>(bytes, 4096);
    if (!end) return;
    std::memset(workspace, 0xFF, end);
    std::memset(workspace + bytes - end, 0xFF, end);
}

void run(const Product& p, int device, std::byte* workspace, std::size_t workspace_bytes) {
    auto& memory = global_memory(device);
    const auto read = [&](const std::byte* begin, std::size_t bytes) {
        memory.require_written(begin, bytes, "cublasGemmEx");
    };
    const bool reads_factors = p.reads_factors();
    if (reads_factors) for_columns(p.a, p.m, p.k, read);
    if (reads_factors) for_columns(p.b, p.k, p.n, read);
    if (p.beta != 0) for_columns(p.c, p.m, p.n, read);
    spoil(workspace, workspace_bytes);
    gemm(p.m, p.n, p.k, p.alpha, p.a, p.b, p.beta, p.c);
    for_columns(p.c, p.m, p.n, [&](const std::byte* begin, std::size_t bytes) { memory.wrote(begin, bytes); });
    totals().multiplications += 1;
}

/// The combinations of cublasGemmEx with CUBLAS_COMPUTE_32F in bf16 and fp32 (cuBLAS documentation, table of
/// cublasGemmEx): A and B have the same type, C has their type or fp32. The real library's other combinations (half,
/// int8, complex, double) are not simulated.
bool supported(cudaDataType a, cudaDataType b, cudaDataType c) {
    return a == b &&
           ((a == CUDA_R_16BF && (c == CUDA_R_16BF || c == CUDA_R_32F)) || (a == CUDA_R_32F && c == CUDA_R_32F));
}

void require_ready(const cublasContext& handle, cublasComputeType_t compute, bool narrow) {
    if (compute == CUBLAS_COMPUTE_32F_FAST_TF32 || (handle.math & 0xF) == CUBLAS_TF32_TENSOR_OP_MATH)
        misuse("cublasGemmEx: TF32 rounds fp32 factors to 10 bits; this project does not use it");
    if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC)
        misuse("cublasGemmEx: compute type ", static_cast<int>(compute), " is not simulated, CUBLAS_COMPUTE_32F is");
    if (narrow && !(handle.math & CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION))
        misuse(
            "cublasGemmEx: partial sums may be added in bf16 unless the math mode has "
            "CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION; this project sums in fp32");
    if (!handle.workspace_set)
        misuse(
            "cublasGemmEx: cuBLAS would allocate memory by itself: no workspace was set by cublasSetWorkspace since "
            "the last cublasSetStream, which resets it");
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    const std::lock_guard hold(api_lock());
    if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
    if (usable() != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
    handles().push_back(*handle = new cublasContext);
    (*handle)->device = current_device();
    totals().handles += 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    return with(handle, [&] {
        force(ends_of_device(handle->device));  // the real library may synchronise here too
        std::erase(handles(), handle);
        delete handle;
        totals().handles -= 1;
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    return with(handle, [&] {
        stream_of(stream, "cublasSetStream");
        handle->stream = stream;
        handle->workspace_set = false;
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
    return with(handle, [&] {
        return stream ? (*stream = handle->stream, CUBLAS_STATUS_SUCCESS) : CUBLAS_STATUS_INVALID_VALUE;
    });
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, std::size_t bytes) {
    return with(handle, [&] {
        require_device(workspace, bytes, handle->device, "cublasSetWorkspace", "the workspace");
        if (reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
        auto* begin = static_cast<std::byte*>(workspace);
        for (const cublasContext* other : handles())
            if (other->workspace_set && other->stream != handle->stream &&
                begin < other->workspace + other->workspace_bytes && other->workspace < begin + bytes)
                misuse("cublasSetWorkspace: the workspace overlaps that of a handle on another stream");
        handle->workspace = begin;
        handle->workspace_bytes = bytes;
        handle->workspace_set = true;
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    return with(handle, [&] { return handle->math = mode, CUBLAS_STATUS_SUCCESS; });
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
    return with(handle,
                [&] { return mode ? (*mode = handle->math, CUBLAS_STATUS_SUCCESS) : CUBLAS_STATUS_INVALID_VALUE; });
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode) {
    return with(handle, [&] { return handle->atomics = mode, CUBLAS_STATUS_SUCCESS; });
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
    return with(handle, [&] {
        if (mode != CUBLAS_POINTER_MODE_HOST)
            misuse("cublasSetPointerMode: scalars in device memory are not simulated");
        return CUBLAS_STATUS_SUCCESS;
    });
}

cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* mode) {
    return with(handle, [&] {
        return mode ? (*mode = CUBLAS_POINTER_MODE_HOST, CUBLAS_STATUS_SUCCESS) : CUBLAS_STATUS_INVALID_VALUE;
    });
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* version) {
    return version ? (*version = CUBLAS_VERSION, CUBLAS_STATUS_SUCCESS) : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                            int k, const void* alpha, const void* a, cudaDataType a_type, int lda, const void* b,
                            cudaDataType b_type, int ldb, const void* beta, void* c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
    return with(handle, [&] {
        const auto known = [](cublasOperation_t operation) {
            return operation == CUBLAS_OP_N || operation == CUBLAS_OP_T || operation == CUBLAS_OP_C;
        };
        if (m < 0 || n < 0 || k < 0 || !known(transa) || !known(transb) || !alpha || !beta)
            return CUBLAS_STATUS_INVALID_VALUE;
        const bool ta = transa != CUBLAS_OP_N, tb = transb != CUBLAS_OP_N;
        if (lda < std::max(1, ta ? k : m) || ldb < std::max(1, tb ? n : k) || ldc < std::max(1, m))
            return CUBLAS_STATUS_INVALID_VALUE;
        if (!supported(a_type, b_type, c_type)) return CUBLAS_STATUS_NOT_SUPPORTED;
        require_ready(*handle, compute, a_type == CUDA_R_16BF);
        m -= m && mutated("m-less", "cublasGemmEx"), n -= n && mutated("n-less", "cublasGemmEx"),
            k -= k && mutated("k-less", "cublasGemmEx");
        if (!m || !n || mutated("drop", "cublasGemmEx")) return CUBLAS_STATUS_SUCCESS;
        Product p{m,
                  n,
                  k,
                  *static_cast<const float*>(alpha),
                  *static_cast<const float*>(beta),
                  {const_cast<void*>(a), *element_of(a_type), lda, ta},
                  {const_cast<void*>(b), *element_of(b_type), ldb, tb},
                  {c, *element_of(c_type), ldc, false}};
        const auto stream = stream_of(handle->stream, "cublasGemmEx");
        require_matrix(p.a, m, k, stream->device, "A");
        require_matrix(p.b, k, n, stream->device, "B");
        require_matrix(p.c, m, n, stream->device, "C");
        if (p.reads_factors()) require_apart(p.a, m, k, p, "A"), require_apart(p.b, k, n, p, "B");
        enqueue(stream, [p, device = stream->device, workspace = handle->workspace, bytes = handle->workspace_bytes] {
            run(p, device, workspace, bytes);
        });
        return CUBLAS_STATUS_SUCCESS;
    });
}

const char* cublasGetStatusName(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS:
            return "CUBLAS_STATUS_SUCCESS";
        case CUBLAS_STATUS_NOT_INITIALIZED:
            return "CUBLAS_STATUS_NOT_INITIALIZED";
        case CUBLAS_STATUS_ALLOC_FAILED:
            return "CUBLAS_STATUS_ALLOC_FAILED";
        case CUBLAS_STATUS_INVALID_VALUE:
            return "CUBLAS_STATUS_INVALID_VALUE";
        case CUBLAS_STATUS_ARCH_MISMATCH:
            return "CUBLAS_STATUS_ARCH_MISMATCH";
        case CUBLAS_STATUS_EXECUTION_FAILED:
            return "CUBLAS_STATUS_EXECUTION_FAILED";
        case CUBLAS_STATUS_INTERNAL_ERROR:
            return "CUBLAS_STATUS_INTERNAL_ERROR";
        case CUBLAS_STATUS_NOT_SUPPORTED:
            return "CUBLAS_STATUS_NOT_SUPPORTED";
        default:
            return "CUBLAS_STATUS of an unknown number";
    }
}

const char* cublasGetStatusString(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS:
            return "success";
        case CUBLAS_STATUS_NOT_INITIALIZED:
            return "the library was not initialized";
        case CUBLAS_STATUS_INVALID_VALUE:
            return "an unsupported value or parameter was passed to the function";
        case CUBLAS_STATUS_NOT_SUPPORTED:
            return "the functionality requested is not supported";
        default:
            return cublasGetStatusName(status);
    }
}

}  // extern "C"
