// Gemm: panels of 16 rows of op(A) and 6 columns of op(B) are widened to fp32 and packed. The 96 sums of a tile stay in
// registers for all of k.
#include "sim/runtime/gemm.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <vector>

namespace sim::runtime {
namespace {

constexpr std::int64_t kRows = 16, kColumns = 6, kBlockPanels = 32;  // 192 columns of op(B) are packed at a time

float widen(float value) { return value; }
float widen(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

void narrow(float value, float& to) { to = value; }
void narrow(float value, std::uint16_t& to) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    to = static_cast<std::uint16_t>(nan ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

/// packed[i][j] = entry j of line i, for j < wide; zeros up to kWide. A line is a column of op(A) or a row of op(B).
/// along: distance in memory from line to line; across: from entry to entry of a line.
template <std::int64_t kWide, class T>
void pack(float* packed, const T* from, std::int64_t along, std::int64_t across, std::int64_t wide,
          std::int64_t lines) {
    if (wide < kWide) std::fill(packed, packed + lines * kWide, 0.0f);
    if (across == 1) {
        for (std::int64_t i = 0; i < lines; ++i)
            for (std::int64_t j = 0; j < wide; ++j) packed[i * kWide + j] = widen(from[i * along + j]);
        return;
    }
    constexpr std::int64_t kPiece = 64;  // lines that are packed together, while their cache lines are at hand
    for (std::int64_t begin = 0; begin < lines; begin += kPiece)
        for (std::int64_t j = 0; j < wide; ++j)
            for (std::int64_t i = begin; i < std::min(lines, begin + kPiece); ++i)
                packed[i * kWide + j] = widen(from[i * along + j * across]);
}

/// tile[column][row] = sum over i of a[i][row] * b[i][column].
void multiply_tile(float* tile, const float* a, const float* b, std::int64_t k) {
    __m256 sum[kColumns][2];
    for (auto& column : sum) column[0] = column[1] = _mm256_setzero_ps();
    for (std::int64_t i = 0; i < k; ++i) {
        const __m256 upper = _mm256_loadu_ps(a + i * kRows), lower = _mm256_loadu_ps(a + i * kRows + 8);
        for (std::int64_t j = 0; j < kColumns; ++j) {
            const __m256 factor = _mm256_broadcast_ss(b + i * kColumns + j);
            sum[j][0] = _mm256_fmadd_ps(upper, factor, sum[j][0]);
            sum[j][1] = _mm256_fmadd_ps(lower, factor, sum[j][1]);
        }
    }
    for (std::int64_t j = 0; j < kColumns; ++j) {
        _mm256_storeu_ps(tile + j * kRows, sum[j][0]);
        _mm256_storeu_ps(tile + j * kRows + 8, sum[j][1]);
    }
}

template <class T>
void store_tile(T* c, std::int64_t leading, const float* tile, std::int64_t rows, std::int64_t columns, float alpha,
                float beta) {
    for (std::int64_t j = 0; j < columns; ++j)
        for (std::int64_t i = 0; i < rows; ++i) {
            T& entry = c[i + j * leading];
            const float product = alpha * tile[i + j * kRows];
            narrow(beta == 0 ? product : product + beta * widen(entry), entry);
        }
}

template <class T> void scale(std::int64_t m, std::int64_t n, float beta, T* c, std::int64_t leading) {
    for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t i = 0; i < m; ++i)
            narrow(beta == 0 ? 0.0f : beta * widen(c[i + j * leading]), c[i + j * leading]);
}

template <class In, class Out>
void multiply(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const Matrix& a, const Matrix& b, float beta,
              const Matrix& c) {
    auto* out = static_cast<Out*>(c.data);
    if (alpha == 0 || k == 0) return scale(m, n, beta, out, c.leading);
    const auto* left = static_cast<const In*>(a.data);
    const auto* right = static_cast<const In*>(b.data);
    const std::int64_t a_row = a.transposed ? a.leading : 1, a_column = a.transposed ? 1 : a.leading;
    const std::int64_t b_row = b.transposed ? b.leading : 1, b_column = b.transposed ? 1 : b.leading;
    const std::int64_t row_panels = (m + kRows - 1) / kRows, column_panels = (n + kColumns - 1) / kColumns;
    std::vector<float> packed_b(static_cast<std::size_t>(std::min(kBlockPanels, column_panels) * kColumns * k));
#pragma omp parallel if (m * n * k > 1 << 20)
    {
        std::vector<float> packed_a(static_cast<std::size_t>(kRows * k));
        float tile[kRows * kColumns];
        for (std::int64_t block = 0; block < column_panels; block += kBlockPanels) {
            const std::int64_t panels = std::min(kBlockPanels, column_panels - block);
#pragma omp for schedule(static)
            for (std::int64_t panel = 0; panel < panels; ++panel) {
                const std::int64_t column = (block + panel) * kColumns;
                pack<kColumns>(packed_b.data() + panel * kColumns * k, right + column * b_column, b_row, b_column,
                               std::min(kColumns, n - column), k);
            }
#pragma omp for schedule(static)
            for (std::int64_t row_panel = 0; row_panel < row_panels; ++row_panel) {
                const std::int64_t row = row_panel * kRows, rows = std::min(kRows, m - row);
                pack<kRows>(packed_a.data(), left + row * a_row, a_column, a_row, rows, k);
                for (std::int64_t panel = 0; panel < panels; ++panel) {
                    const std::int64_t column = (block + panel) * kColumns;
                    multiply_tile(tile, packed_a.data(), packed_b.data() + panel * kColumns * k, k);
                    store_tile(out + row + column * c.leading, c.leading, tile, rows, std::min(kColumns, n - column),
                               alpha, beta);
                }
            }
        }
    }
}

}  // namespace

void gemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const Matrix& a, const Matrix& b, float beta,
          const Matrix& c) {
    if (!m || !n) return;
    if (a.element == Element::float32) return multiply<float, float>(m, n, k, alpha, a, b, beta, c);
    if (c.element == Element::float32) return multiply<std::uint16_t, float>(m, n, k, alpha, a, b, beta, c);
    multiply<std::uint16_t, std::uint16_t>(m, n, k, alpha, a, b, beta, c);
}

}  // namespace sim::runtime
