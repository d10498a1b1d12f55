// The operations of kernels/ops.h as plain loops with the same order of arguments; attention is in
// tests/reference/attention.h. R is the arithmetic: double is the reference, float is the plain implementation from
// whose error the tests derive their budgets. Slow on purpose; nothing is shared with kernels/.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace longlora::reference {

template <class R> struct Matrix {
    std::int64_t rows = 0, columns = 0;
    std::vector<R> values;
    Matrix() = default;
    Matrix(std::int64_t m, std::int64_t n, R value = 0)
        : rows(m),
          columns(n),
          values(static_cast<std::size_t>(m * n), value) {}
    template <class Other>
    explicit Matrix(const Matrix<Other>& other)
        : rows(other.rows),
          columns(other.columns),
          values(other.values.begin(), other.values.end()) {}
    R& operator()(std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i * columns + j)]; }
    R operator()(std::int64_t i, std::int64_t j) const { return values[static_cast<std::size_t>(i * columns + j)]; }
};
using Ids = std::vector<std::int32_t>;

/// One element of op(a) op(b).
template <class R>
R product(const Matrix<R>& a, const Matrix<R>& b, bool transpose_a, bool transpose_b, std::int64_t i, std::int64_t j) {
    const std::int64_t depth = transpose_a ? a.rows : a.columns;
    R sum = 0;
    for (std::int64_t k = 0; k < depth; ++k)
        sum += (transpose_a ? a(k, i) : a(i, k)) * (transpose_b ? b(j, k) : b(k, j));
    return sum;
}

template <class R>
void matmul(Matrix<R>& out, const Matrix<R>& a, const Matrix<R>& b, bool transpose_a, bool transpose_b, R alpha,
            R beta) {
    for (std::int64_t i = 0; i < out.rows; ++i)
        for (std::int64_t j = 0; j < out.columns; ++j)
            out(i, j) = alpha * product(a, b, transpose_a, transpose_b, i, j) + (beta == 0 ? 0 : beta * out(i, j));
}

template <class R> void embedding_forward(Matrix<R>& out, const Matrix<R>& table, const Ids& ids) {
    for (std::int64_t t = 0; t < out.rows; ++t)
        for (std::int64_t d = 0; d < out.columns; ++d) out(t, d) = table(ids[static_cast<std::size_t>(t)], d);
}

template <class R> void embedding_backward(Matrix<R>& d_table, const Matrix<R>& d_out, const Ids& ids) {
    for (std::int64_t t = 0; t < d_out.rows; ++t)
        for (std::int64_t d = 0; d < d_out.columns; ++d) d_table(ids[static_cast<std::size_t>(t)], d) += d_out(t, d);
}

/// rrms is (T,1), weight (1,D).
template <class R>
void rmsnorm_forward(Matrix<R>& y, Matrix<R>& rrms, const Matrix<R>& x, const Matrix<R>& weight, R eps) {
    for (std::int64_t t = 0; t < x.rows; ++t) {
        R sum = 0;
        for (std::int64_t d = 0; d < x.columns; ++d) sum += x(t, d) * x(t, d);
        rrms(t, 0) = 1 / std::sqrt(sum / static_cast<R>(x.columns) + eps);
        for (std::int64_t d = 0; d < x.columns; ++d) y(t, d) = x(t, d) * rrms(t, 0) * weight(0, d);
    }
}

template <class R>
void rmsnorm_backward(Matrix<R>& d_x, Matrix<R>& d_weight, const Matrix<R>& d_y, const Matrix<R>& x,
                      const Matrix<R>& weight, const Matrix<R>& rrms) {
    for (std::int64_t t = 0; t < x.rows; ++t) {
        const R r = rrms(t, 0);
        R dot = 0;
        for (std::int64_t d = 0; d < x.columns; ++d) dot += d_y(t, d) * weight(0, d) * x(t, d);
        for (std::int64_t d = 0; d < x.columns; ++d) {
            d_x(t, d) += d_y(t, d) * weight(0, d) * r - x(t, d) * r * r * r * dot / static_cast<R>(x.columns);
            d_weight(0, d) += d_y(t, d) * x(t, d) * r;
        }
    }
}

/// Multiplies each pair, taken as the complex number a + ib, by e^(i angle), or by e^(-i angle) if inverse.
template <class R>
void rotary(Matrix<R>& x, const Matrix<R>& cos, const Matrix<R>& sin, std::int64_t head_dim,
            std::int64_t position_begin, bool inverse) {
    for (std::int64_t t = 0; t < x.rows; ++t)
        for (std::int64_t head = 0; head < x.columns / head_dim; ++head)
            for (std::int64_t i = 0; i < head_dim / 2; ++i) {
                R &a = x(t, head * head_dim + i), &b = x(t, head * head_dim + head_dim / 2 + i);
                const R c = cos(position_begin + t, i),
                        s = inverse ? -sin(position_begin + t, i) : sin(position_begin + t, i), was = a;
                a = was * c - b * s;
                b = b * c + was * s;
            }
}

template <class R> R silu(R x) { return x / (1 + std::exp(-x)); }

template <class R> void swiglu_forward(Matrix<R>& out, const Matrix<R>& gate, const Matrix<R>& up) {
    for (std::size_t i = 0; i < out.values.size(); ++i) out.values[i] = silu(gate.values[i]) * up.values[i];
}

template <class R>
void swiglu_backward(Matrix<R>& d_gate, Matrix<R>& d_up, const Matrix<R>& d_out, const Matrix<R>& gate,
                     const Matrix<R>& up) {
    for (std::size_t i = 0; i < d_gate.values.size(); ++i) {
        const R x = gate.values[i], s = 1 / (1 + std::exp(-x));
        d_gate.values[i] = d_out.values[i] * up.values[i] * (s + x * s * (1 - s));
        d_up.values[i] = d_out.values[i] * x * s;
    }
}

template <class R> void cross_entropy(double& loss_sum, Matrix<R>& logits, const Ids& labels, R scale, bool gradient) {
    for (std::int64_t t = 0; t < logits.rows; ++t) {
        const std::int32_t label = labels[static_cast<std::size_t>(t)];
        R most = logits(t, 0), sum = 0;
        for (std::int64_t i = 0; i < logits.columns; ++i) most = std::max(most, logits(t, i));
        for (std::int64_t i = 0; i < logits.columns; ++i) sum += std::exp(logits(t, i) - most);
        if (label >= 0) loss_sum += static_cast<double>(std::log(sum) + (most - logits(t, label)));
        for (std::int64_t i = 0; gradient && i < logits.columns; ++i)
            logits(t, i) = label < 0 ? 0 : scale * (std::exp(logits(t, i) - most) / sum - (i == label ? 1 : 0));
    }
}

/// One element of an AdamW step, as torch.optim.AdamW documents it.
template <class R>
void adamw(R& master, R& m, R& v, R grad, R scale, double lr, double beta1, double beta2, double eps,
           double weight_decay, std::int64_t step) {
    const R g = scale * grad;
    master *= static_cast<R>(1 - lr * weight_decay);
    m = static_cast<R>(beta1) * m + static_cast<R>(1 - beta1) * g;
    v = static_cast<R>(beta2) * v + static_cast<R>(1 - beta2) * g * g;
    const R m_hat = m / static_cast<R>(1 - std::pow(beta1, static_cast<double>(step))),
            v_hat = v / static_cast<R>(1 - std::pow(beta2, static_cast<double>(step)));
    master -= static_cast<R>(lr) * m_hat / (std::sqrt(v_hat) + static_cast<R>(eps));
}

}  // namespace longlora::reference
