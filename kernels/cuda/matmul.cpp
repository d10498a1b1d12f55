// If both operands have one type, cuBLAS computes the product directly, except a bfloat16 result of float32 operands. A
// bfloat16 operand beside a float32 one is widened into a float32 panel; a bfloat16 result of float32 operands is
// computed in a float32 panel and rounded once. Panels lie in scratch, so such a product is computed tile by tile. The
// tiles depend only on shapes and types.
#include "kernels/cuda/matmul.h"

#include "kernels/cuda/operations.h"

namespace longlora::cuda {
namespace {

// The longest sum that one call computes when it widens an operand, so that panels stay wide.
constexpr std::int64_t kDepth = 8192;

/// An operand x, of which part() takes rows and columns of op(x).
struct Operand {
    ConstTensor tensor;
    bool transposed;
    ConstTensor part(std::int64_t row, std::int64_t num_rows, std::int64_t column, std::int64_t num_columns) const {
        return transposed ? tensor.rows(column, num_columns).columns(row, num_rows)
                          : tensor.rows(row, num_rows).columns(column, num_columns);
    }
};

struct Panels {
    cudaStream_t stream;
    float *operand, *out;   // where the two panels begin
    std::int64_t elements;  // of one panel

    /// Converts x to float32 in the operand's panel.
    ConstTensor widen(const ConstTensor& x) const {
        const Tensor wide(operand, DType::float32, x.shape);
        copy(stream, wide, x);
        return wide;
    }
};

struct Tile {
    std::int64_t m, n, k;
};

Tile tile_of(std::int64_t m, std::int64_t n, std::int64_t k, bool widen_a, bool widen_b, bool narrow_out,
             std::int64_t elements) {
    Tile tile{m, n, widen_a || widen_b ? std::min(k, kDepth) : k};
    if (widen_a) tile.m = std::min(tile.m, elements / tile.k);
    if (widen_b) tile.n = std::min(tile.n, elements / tile.k);
    if (narrow_out && tile.m * tile.n > elements) {
        if (widen_b) tile.m = std::max<std::int64_t>(1, elements / tile.n);
        else tile.n = std::max<std::int64_t>(1, elements / tile.m);
        tile.m = std::min(tile.m, elements / tile.n);  // where one side alone is longer than a panel
    }
    return tile;
}

}  // namespace

void matmul(cudaStream_t stream, Blas& blas, Tensor scratch, Tensor out, ConstTensor a, ConstTensor b, bool transpose_a,
            bool transpose_b, float alpha, float beta) {
    const std::int64_t m = out.shape[0], n = out.shape[1], k = a.shape[transpose_a ? 0 : 1];
    if (m == 0 || n == 0) return;
    if (k == 0) return scale(stream, out, beta);
    const bool mixed = a.dtype != b.dtype, widen_a = mixed && a.dtype == DType::bfloat16,
               widen_b = mixed && b.dtype == DType::bfloat16;
    const bool narrow_out = out.dtype == DType::bfloat16 && (mixed || a.dtype == DType::float32);
    if (!mixed && !narrow_out) return blas.gemm(out, a, b, transpose_a, transpose_b, alpha, beta);
    const std::int64_t bytes = scratch.size_bytes() / (mixed && narrow_out ? 2 : 1);
    const Panels panels{stream, reinterpret_cast<float*>(scratch.bytes),
                        reinterpret_cast<float*>(scratch.bytes + (mixed ? bytes : 0)), bytes / 4};
    const Tile tile = tile_of(m, n, k, widen_a, widen_b, narrow_out, panels.elements);
    const Operand op_a{a, transpose_a}, op_b{b, transpose_b};
    for (std::int64_t column = 0; column < n; column += tile.n)
        for (std::int64_t row = 0; row < m; row += tile.m) {
            const std::int64_t rows = std::min(tile.m, m - row), columns = std::min(tile.n, n - column);
            const Tensor to = out.rows(row, rows).columns(column, columns);
            const Tensor sum = narrow_out ? Tensor(panels.out, DType::float32, {rows, columns}) : to;
            for (std::int64_t at = 0; at < k; at += tile.k) {
                const std::int64_t depth = std::min(tile.k, k - at);
                const ConstTensor left = op_a.part(row, rows, at, depth), right = op_b.part(at, depth, column, columns);
                blas.gemm(sum, widen_a ? panels.widen(left) : left, widen_b ? panels.widen(right) : right, transpose_a,
                          transpose_b, alpha,
                          at > 0       ? 1.0f
                          : narrow_out ? 0.0f
                                       : beta);
            }
            if (narrow_out) combine(stream, to, sum, beta);
        }
}

}  // namespace longlora::cuda
