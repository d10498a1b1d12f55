// Computes products tile by tile with onednn_gemm.h. If oneDNN cannot take a bfloat16 operand directly (beside a
// float32 one, or without bfloat16 instructions), the operand is widened into a panel of at most 8 MiB. A bfloat16
// result of such a product is computed in a float32 panel and rounded once.
#include "kernels/cpu/matmul.h"

#include <vector>

#include "kernels/cpu/onednn_gemm.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace longlora::cpu {
namespace {

constexpr std::int64_t kPanelElements = 1 << 21;  // 8 MiB of float32
// The longest sum that one call computes when it widens an operand, so that panels stay wide.
constexpr std::int64_t kDepth = 8192;
constexpr double kTileFlops = 2e9;  // about 5 to 30 ms, the longest time that a message waits
constexpr std::int64_t kLeastSide = 256, kSideStep = 64;

/// An operand x, of which part() takes rows and columns of op(x).
struct Operand {
    ConstTensor tensor;
    bool transposed;
    ConstTensor part(std::int64_t row, std::int64_t num_rows, std::int64_t column, std::int64_t num_columns) const {
        return transposed ? tensor.rows(column, num_columns).columns(row, num_rows)
                          : tensor.rows(row, num_rows).columns(column, num_columns);
    }
};

std::int64_t pieces_of(std::int64_t n, std::int64_t piece) { return (n + piece - 1) / piece; }

/// Divides n into about `wanted` equal pieces, none shorter than kLeastSide, and returns their length.
std::int64_t side_of(std::int64_t n, std::int64_t wanted) {
    const std::int64_t pieces = std::max<std::int64_t>(1, std::min(wanted, n / kLeastSide));
    return pieces_of(pieces_of(n, pieces), kSideStep) * kSideStep;
}

struct Tile {
    std::int64_t m, n, k;
};

Tile tile_of(std::int64_t m, std::int64_t n, std::int64_t k, bool widen_a, bool widen_b, bool narrow_out) {
    const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    const auto wanted = static_cast<std::int64_t>(std::min(1e6, flops / kTileFlops)) + 1;
    Tile tile{m, n, widen_a || widen_b ? std::min(k, kDepth) : k};
    std::int64_t &longer = n > m ? tile.n : tile.m, &shorter = n > m ? tile.m : tile.n;
    const std::int64_t length = longer;
    longer = std::min(longer, side_of(longer, wanted));
    shorter = std::min(shorter, side_of(shorter, pieces_of(wanted, pieces_of(length, longer))));
    if (widen_a) tile.m = std::min(tile.m, kPanelElements / tile.k);
    if (widen_b) tile.n = std::min(tile.n, kPanelElements / tile.k);
    if (narrow_out) tile.n = std::min(tile.n, std::max<std::int64_t>(1, kPanelElements / tile.m));
    return tile;
}

/// The float32 copy of that part of an operand which was widened last.
struct Panel {
    std::vector<float> storage;
    std::int64_t row = -1, column = -1;

    ConstTensor widen(const Operand& from, std::int64_t r, std::int64_t num_rows, std::int64_t c,
                      std::int64_t num_columns) {
        const ConstTensor source = from.part(r, num_rows, c, num_columns);
        if (static_cast<std::int64_t>(storage.size()) < source.count()) storage.resize(source.count());
        const Tensor wide(storage.data(), DType::float32, source.shape);
        if (row == r && column == c) return wide;
        row = r, column = c;
        const Rows<const bf16> in(source);
        const Rows<float> out(wide);
        for_pieces(source.shape[0], source.width(), [&](std::int64_t i, std::int64_t begin, std::int64_t end) {
            const bf16* narrow = in[i];
            float* to = out[i];
#pragma omp simd
            for (std::int64_t j = begin; j < end; ++j) to[j] = float(narrow[j]);
        });
        return wide;
    }
    void forget() { row = column = -1; }
};

/// out = panel + beta * out, rounded to bfloat16 once.
void narrow(const Tensor& out, const ConstTensor& panel, float beta) {
    const Rows<bf16> to(out);
    const Rows<const float> from(panel);
    for_pieces(out.shape[0], out.width(), [&](std::int64_t i, std::int64_t begin, std::int64_t end) {
        const float* sum = from[i];
        bf16* y = to[i];
        if (beta == 0) {
#pragma omp simd
            for (std::int64_t j = begin; j < end; ++j) put(y[j], sum[j]);
        } else {
#pragma omp simd
            for (std::int64_t j = begin; j < end; ++j) put(y[j], sum[j] + beta * float(y[j]));
        }
    });
}

/// out = beta * out, for products that sum over no elements.
void scale(const Tensor& out, float beta) {
    with_type(out.dtype, [&](auto type) {
        using T = decltype(type);
        const Rows<T> rows(out);
        for_pieces(out.shape[0], out.width(), [&](std::int64_t i, std::int64_t begin, std::int64_t end) {
            for (std::int64_t j = begin; j < end; ++j) rows[i][j] = T(beta == 0 ? 0.0f : beta * float(rows[i][j]));
        });
    });
}

}  // namespace

struct Matmul::State {
    OnednnGemm gemm;
    bool bfloat16_instructions;
    Panel panel_a, panel_b;
    std::vector<float> panel_out;
};

Matmul::Matmul(bool bfloat16_instructions)
    : state_(new State{{}, bfloat16_instructions && OnednnGemm::has_bfloat16(), {}, {}, {}}) {}
Matmul::~Matmul() = default;

void Matmul::operator()(Tensor out, ConstTensor a, ConstTensor b, bool transpose_a, bool transpose_b, float alpha,
                        float beta, const std::function<void()>& progress) {
    const std::int64_t m = out.shape[0], n = out.shape[1], k = a.shape[transpose_a ? 0 : 1];
    if (m == 0 || n == 0) return;
    if (k == 0) return scale(out, beta);
    State& s = *state_;
    const bool narrow_a = a.dtype == DType::bfloat16, narrow_b = b.dtype == DType::bfloat16,
               direct = narrow_a && narrow_b && s.bfloat16_instructions;
    const bool widen_a = narrow_a && !direct, widen_b = narrow_b && !direct,
               narrow_out = out.dtype == DType::bfloat16 && !direct;
    const Tile tile = tile_of(m, n, k, widen_a, widen_b, narrow_out);
    const Operand op_a{a, transpose_a}, op_b{b, transpose_b};
    s.panel_a.forget(), s.panel_b.forget();
    if (narrow_out && static_cast<std::int64_t>(s.panel_out.size()) < tile.m * tile.n)
        s.panel_out.resize(tile.m * tile.n);
    bool first = true;
    for (std::int64_t column = 0; column < n; column += tile.n)
        for (std::int64_t row = 0; row < m; row += tile.m) {
            const std::int64_t rows = std::min(tile.m, m - row), columns = std::min(tile.n, n - column);
            const Tensor to = out.rows(row, rows).columns(column, columns);
            const Tensor sum = narrow_out ? Tensor(s.panel_out.data(), DType::float32, {rows, columns}) : to;
            for (std::int64_t at = 0; at < k; at += tile.k) {
                if (!first) progress();
                first = false;
                const std::int64_t depth = std::min(tile.k, k - at);
                const ConstTensor left =
                    widen_a ? s.panel_a.widen(op_a, row, rows, at, depth) : op_a.part(row, rows, at, depth);
                const ConstTensor right =
                    widen_b ? s.panel_b.widen(op_b, at, depth, column, columns) : op_b.part(at, depth, column, columns);
                s.gemm(sum, left, right, transpose_a, transpose_b, alpha, at > 0 ? 1.0f : narrow_out ? 0.0f : beta);
            }
            if (narrow_out) narrow(to, sum, beta);
        }
}

}  // namespace longlora::cpu
