// Gemm: C = alpha op(A) op(B) + beta C on column-major matrices in memory that the CPU can read. The simulated cuBLAS
// (cublas.cpp) calls it and checks the pointers; no pointer is checked here.
#pragma once

#include <cstdint>

namespace sim::runtime {

enum class Element { bfloat16, float32 };
inline std::int64_t bytes_of(Element element) { return element == Element::bfloat16 ? 2 : 4; }

/// Column-major: entry (row, column) is at row + column * leading.
struct Matrix {
    void* data = nullptr;
    Element element = Element::float32;
    std::int64_t leading = 0;
    bool transposed = false;  ///< for A and B: op(X) is the transpose of X
};

/// C is m x n, op(A) m x k, op(B) k x n. Every entry is one chain of fp32 fused multiply-adds over ascending k, times
/// alpha, plus beta times the old entry, and is rounded once to C's type (to nearest even). beta == 0 does not read C;
/// alpha == 0 does not read A and B. The bits of the result do not depend on the number of threads.
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const Matrix& a, const Matrix& b, float beta,
          const Matrix& c);

}  // namespace sim::runtime
