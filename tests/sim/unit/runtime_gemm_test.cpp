// Tests of the simulated cuBLAS: products against loops in double for all transpositions, types, leading dimensions and
// scalars; the calls that it refuses; workspaces and handles.
#include <cublas_v2.h>

#include <array>
#include <bit>
#include <cmath>
#include <random>

#include "runtime_testing.h"

using namespace sim::testing;
using sim::probe::Misuse;

namespace {

float rounded(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return std::bit_cast<float>((bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u);
}

/// A matrix on host and device, by columns. The entries between columns are NaN on the host and never written on the
/// device.
struct TestMatrix {
    int rows = 0, columns = 0, leading = 0;
    bool bfloat16 = false;
    std::vector<float> host;
    DeviceBuffer<std::byte> device;

    TestMatrix(int num_rows, int num_columns, int extra, bool narrow, std::mt19937& random)
        : rows(num_rows),
          columns(num_columns),
          leading(std::max(1, num_rows + extra)),
          bfloat16(narrow),
          host(std::size_t(leading) * columns, NAN),
          device(size() * std::size_t(leading) * columns + 4) {
        std::normal_distribution<float> normal;
        for (int j = 0; j < columns; ++j)
            for (int i = 0; i < rows; ++i) at(i, j) = narrow ? rounded(normal(random)) : normal(random);
    }
    std::size_t size() const { return bfloat16 ? 2 : 4; }
    cudaDataType type() const { return bfloat16 ? CUDA_R_16BF : CUDA_R_32F; }
    float& at(int i, int j) { return host[std::size_t(j) * leading + i]; }
    float at(int i, int j) const { return host[std::size_t(j) * leading + i]; }
    void upload() const {
        for (int j = 0; j < columns; ++j) {
            std::vector<std::byte> column;
            for (int i = 0; i < rows; ++i) {
                const auto bits = std::bit_cast<std::array<std::byte, 4>>(at(i, j));
                column.insert(column.end(), bits.begin() + (bfloat16 ? 2 : 0), bits.end());
            }
            ok(cudaMemcpy(device.get() + std::size_t(j) * leading * size(), column.data(), column.size(),
                          cudaMemcpyHostToDevice));
        }
        ok(cudaDeviceSynchronize());
    }
    float downloaded(int i, int j) const {
        std::array<std::byte, 4> bits{};
        ok(cudaMemcpy(bits.data() + (bfloat16 ? 2 : 0), device.get() + (std::size_t(j) * leading + i) * size(), size(),
                      cudaMemcpyDeviceToHost));
        return std::bit_cast<float>(bits);
    }
};

/// A cuBLAS handle with its stream and workspace.
struct Blas {
    TestStream stream;
    DeviceBuffer<std::byte> workspace{1 << 16};
    cublasHandle_t handle = nullptr;
    Blas() {
        BOOST_REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS);
        BOOST_REQUIRE(cublasSetMathMode(handle, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION) ==
                      CUBLAS_STATUS_SUCCESS);
        BOOST_REQUIRE(cublasSetStream(handle, stream) == CUBLAS_STATUS_SUCCESS);
        BOOST_REQUIRE(cublasSetWorkspace(handle, workspace.get(), workspace.bytes()) == CUBLAS_STATUS_SUCCESS);
    }
    ~Blas() { cublasDestroy(handle); }
    cublasStatus_t multiply(bool ta, bool tb, int m, int n, int k, float alpha, const TestMatrix& a,
                            const TestMatrix& b, float beta, const TestMatrix& c,
                            cublasComputeType_t compute = CUBLAS_COMPUTE_32F) const {
        return cublasGemmEx(handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &alpha,
                            a.device.get(), a.type(), a.leading, b.device.get(), b.type(), b.leading, &beta,
                            c.device.get(), c.type(), c.leading, compute, CUBLAS_GEMM_DEFAULT);
    }
};

/// Checks that |result - exact| is at most the error of k additions in fp32 in any order, plus half a unit in the last
/// place of C's type.
void check_product(const Blas& blas, bool ta, bool tb, int m, int n, int k, float alpha, float beta, bool narrow_in,
                   bool narrow_out, int extra) {
    std::mt19937 random(static_cast<unsigned>(m + 31 * n + 101 * k));
    const TestMatrix a(ta ? k : m, ta ? m : k, extra, narrow_in, random),
        b(tb ? n : k, tb ? k : n, 2 * extra, narrow_in, random), c(m, n, extra, narrow_out, random);
    a.upload();
    b.upload();
    if (beta != 0) c.upload();
    BOOST_REQUIRE(blas.multiply(ta, tb, m, n, k, alpha, a, b, beta, c) == CUBLAS_STATUS_SUCCESS);
    blas.stream.synchronize();
    for (int j = 0; j < n; ++j)
        for (int i = 0; i < m; ++i) {
            double exact = beta != 0 ? double(beta) * c.at(i, j) : 0, size = std::abs(exact);
            for (int p = 0; p < k; ++p) {
                const double term =
                    double(alpha) * (ta ? a.at(p, i) : a.at(i, p)) * double(tb ? b.at(j, p) : b.at(p, j));
                exact += term;
                size += std::abs(term);
            }
            const double bound = size * (k + 3) * 0x1p-24 + (narrow_out ? std::abs(exact) * 0x1.01p-8 : 0);
            const double error = std::abs(c.downloaded(i, j) - exact);
            if (!(error <= bound))
                BOOST_ERROR("entry " << i << ',' << j << " of " << m << 'x' << n << 'x' << k << " has an error of "
                                     << error << "; only " << bound << " is allowed");
        }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(runtime_gemm)

BOOST_AUTO_TEST_CASE(products_agree_with_loops_in_double) {
    const Blas blas;
    struct Shape {
        int m, n, k;
    };
    for (const auto [m, n, k] :
         {Shape{1, 1, 1}, Shape{16, 6, 8}, Shape{17, 7, 65}, Shape{33, 13, 3}, Shape{5, 200, 19}})
        for (const bool ta : {false, true})
            for (const bool tb : {false, true}) {
                check_product(blas, ta, tb, m, n, k, 1, 0, false, false, 0);
                check_product(blas, ta, tb, m, n, k, -0.5f, 1, true, false, 3);
                check_product(blas, ta, tb, m, n, k, 2, 0.25f, true, true, 0);
            }
}

BOOST_AUTO_TEST_CASE(old_entries_are_not_read_when_beta_is_zero) {
    const Blas blas;
    std::mt19937 random(1);
    const TestMatrix a(4, 4, 0, false, random), b(4, 4, 0, false, random), c(4, 4, 0, false, random);
    a.upload();
    b.upload();
    BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 1, a, b, 0, c) == CUBLAS_STATUS_SUCCESS);
    blas.stream.synchronize();  // no fault, although c was never written
    const TestMatrix d(4, 4, 0, false, random);
    BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 1, a, b, 1, d) == CUBLAS_STATUS_SUCCESS);
    throws<sim::ptx::Fault>([&] { return cudaStreamSynchronize(blas.stream); }, "cublasGemmEx");
    BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 1, a, d, 0, c) == CUBLAS_STATUS_SUCCESS);
    throws<sim::ptx::Fault>([&] { return cudaStreamSynchronize(blas.stream); }, "cublasGemmEx");
    // With alpha == 0 the factors are not read.
    BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 0, a, d, 0, c) == CUBLAS_STATUS_SUCCESS);
    blas.stream.synchronize();
    BOOST_TEST(c.downloaded(3, 3) == 0);
}

BOOST_AUTO_TEST_CASE(only_the_types_of_the_real_library) {
    const Blas blas;
    std::mt19937 random(1);
    const TestMatrix wide(4, 4, 0, false, random), narrow(4, 4, 0, true, random);
    BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 1, wide, narrow, 0, wide) == CUBLAS_STATUS_NOT_SUPPORTED);
    BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 1, narrow, wide, 0, wide) == CUBLAS_STATUS_NOT_SUPPORTED);
    BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 1, wide, wide, 0, narrow) == CUBLAS_STATUS_NOT_SUPPORTED);
    BOOST_TEST(std::string(cublasGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED)) ==
               "the functionality requested is not supported");
}

BOOST_AUTO_TEST_CASE(leading_dimensions_and_bounds) {
    const Blas blas;
    std::mt19937 random(1);
    TestMatrix a(4, 4, 0, false, random), b(4, 4, 0, false, random), c(4, 4, 0, false, random);
    BOOST_TEST(blas.multiply(false, false, 5, 4, 4, 1, a, b, 0, c) == CUBLAS_STATUS_INVALID_VALUE);
    BOOST_TEST(blas.multiply(true, false, 4, 4, 5, 1, a, b, 0, c) == CUBLAS_STATUS_INVALID_VALUE);
    BOOST_TEST(blas.multiply(false, false, -1, 4, 4, 1, a, b, 0, c) == CUBLAS_STATUS_INVALID_VALUE);
    // B and C have two columns fewer than the product needs.
    throws<Misuse>([&] { return blas.multiply(false, false, 4, 6, 4, 1, a, b, 0, c); }, "cublasGemmEx");
    BOOST_TEST(blas.multiply(false, false, 0, 4, 4, 1, a, b, 0, c) == CUBLAS_STATUS_SUCCESS);
    blas.stream.synchronize();
}

BOOST_AUTO_TEST_CASE(the_product_does_not_overlap_its_factors) {
    const Blas blas;
    const DeviceBuffer<float> x(std::vector<float>(64, 1)), y(std::vector<float>(64, 1));
    const auto multiply = [&](const float* a, const float* b, float* c, float alpha = 1) {  // 4 x 4, columns 8 apart
        const float beta = 0;
        return cublasGemmEx(blas.handle, CUBLAS_OP_N, CUBLAS_OP_T, 4, 4, 4, &alpha, a, CUDA_R_32F, 8, b, CUDA_R_32F, 8,
                            &beta, c, CUDA_R_32F, 8, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    };
    throws<Misuse>([&] { return multiply(x.get(), y.get(), x.get()); }, "C overlaps A");
    throws<Misuse>([&] { return multiply(y.get(), x.get(), x.get() + 3); }, "C overlaps B");
    throws<Misuse>([&] { return multiply(y.get(), x.get() + 27, x.get()); }, "C overlaps B");
    // The upper and the lower half of one matrix do not overlap.
    BOOST_TEST(multiply(y.get(), x.get() + 4, x.get()) == CUBLAS_STATUS_SUCCESS);
    BOOST_TEST(multiply(x.get(), x.get(), x.get() + 32) == CUBLAS_STATUS_SUCCESS);
    BOOST_TEST(multiply(x.get(), x.get(), x.get(), 0) == CUBLAS_STATUS_SUCCESS);  // with alpha == 0 no factor is read
    blas.stream.synchronize();
}

BOOST_AUTO_TEST_CASE(tf32_is_an_error) {
    const Blas blas;
    std::mt19937 random(1);
    const TestMatrix a(4, 4, 0, false, random);
    throws<Misuse>([&] { return blas.multiply(false, false, 4, 4, 4, 1, a, a, 0, a, CUBLAS_COMPUTE_32F_FAST_TF32); },
                   "TF32");
    BOOST_TEST(cublasSetMathMode(blas.handle, CUBLAS_TF32_TENSOR_OP_MATH) == CUBLAS_STATUS_SUCCESS);
    throws<Misuse>([&] { return blas.multiply(false, false, 4, 4, 4, 1, a, a, 0, a); }, "TF32");
    for (const int mode : {int{CUBLAS_PEDANTIC_MATH}, int{CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION}}) {
        BOOST_TEST(cublasSetMathMode(blas.handle, static_cast<cublasMath_t>(mode)) == CUBLAS_STATUS_SUCCESS);
        BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 0, a, a, 0, a) == CUBLAS_STATUS_SUCCESS);
    }
    blas.stream.synchronize();
}

BOOST_AUTO_TEST_CASE(sums_in_bf16_are_an_error) {
    const Blas blas;
    std::mt19937 random(1);
    const TestMatrix a(4, 4, 0, true, random);
    BOOST_TEST(cublasSetMathMode(blas.handle, CUBLAS_DEFAULT_MATH) == CUBLAS_STATUS_SUCCESS);
    throws<Misuse>([&] { return blas.multiply(false, false, 4, 4, 4, 1, a, a, 0, a); },
                   "DISALLOW_REDUCED_PRECISION_REDUCTION");
}

BOOST_AUTO_TEST_CASE(the_workspace_is_the_callers) {
    const Blas blas;
    std::mt19937 random(1);
    const TestMatrix a(4, 4, 0, false, random), c(4, 4, 0, false, random);
    a.upload();
    const TestStream other;
    cublasSetStream(blas.handle, other);  // resets the workspace, as the real library does
    throws<Misuse>([&] { return blas.multiply(false, false, 4, 4, 4, 1, a, a, 0, c); }, "allocate memory by itself");
    BOOST_TEST(cublasSetWorkspace(blas.handle, nullptr, 0) == CUBLAS_STATUS_SUCCESS);
    BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 1, a, a, 0, c) == CUBLAS_STATUS_SUCCESS);
    ok(cudaStreamSynchronize(other));
    std::vector<std::byte> host(4096);
    throws<Misuse>([&] { return cublasSetWorkspace(blas.handle, host.data(), host.size()); }, "is not device memory");
    // A product overwrites the data in its workspace.
    const DeviceBuffer<unsigned char> in_use(std::vector<unsigned char>(8192, 1));
    BOOST_TEST(cublasSetWorkspace(blas.handle, in_use.get(), 8192) == CUBLAS_STATUS_SUCCESS);
    BOOST_TEST(blas.multiply(false, false, 4, 4, 4, 1, a, a, 0, c) == CUBLAS_STATUS_SUCCESS);
    ok(cudaStreamSynchronize(other));
    BOOST_TEST(in_use.values().front() != 1);
    BOOST_TEST(in_use.values().back() != 1);
    const Blas second;
    throws<Misuse>([&] { return cublasSetWorkspace(second.handle, in_use.get() + 4096, 4096); }, "overlaps");
}

BOOST_AUTO_TEST_CASE(handles) {
    int version = 0;
    const Blas blas;
    BOOST_TEST(cublasGetVersion(blas.handle, &version) == CUBLAS_STATUS_SUCCESS);
    BOOST_TEST(version == CUBLAS_VERSION);
    BOOST_TEST(cublasSetMathMode(nullptr, CUBLAS_DEFAULT_MATH) == CUBLAS_STATUS_NOT_INITIALIZED);
    throws<Misuse>([&] { return cublasSetPointerMode(blas.handle, CUBLAS_POINTER_MODE_DEVICE); },
                   "scalars in device memory");
}

BOOST_AUTO_TEST_SUITE_END()
