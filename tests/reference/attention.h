// Attention by plain loops over (query, key) pairs. In double it is the reference; in float it measures the error of
// plain arithmetic. Vectors are row-major: q, out (T,H,E), k, v (S,K,E), lse (H,T).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace longlora::reference {

struct AttentionProblem {
    std::int64_t num_queries = 0, num_keys = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
    std::int64_t query_begin = 0, key_begin = 0;  ///< global tokens of row 0 of q and of k, v
    std::vector<std::int32_t> first_key[2];       ///< per global token, of plain and of shifted heads
    std::int64_t num_plain_heads = 0;
    double scale = 1;

    std::size_t q_at(std::int64_t t, std::int64_t h) const {
        return static_cast<std::size_t>((t * num_heads + h) * head_dim);
    }
    std::size_t k_at(std::int64_t j, std::int64_t h) const {
        return static_cast<std::size_t>((j * num_kv_heads + h / (num_heads / num_kv_heads)) * head_dim);
    }
    std::size_t lse_at(std::int64_t t, std::int64_t h) const { return static_cast<std::size_t>(h * num_queries + t); }
    /// Whether row t of q sees row j of k in head h.
    bool visible(std::int64_t t, std::int64_t j, std::int64_t h) const {
        const std::int64_t query = query_begin + t, key = key_begin + j;
        return key <= query && key >= first_key[h >= num_plain_heads][static_cast<std::size_t>(query)];
    }
};

template <class Real>
Real dot(const std::vector<Real>& a, std::size_t at_a, const std::vector<Real>& b, std::size_t at_b, std::int64_t n) {
    Real sum = 0;
    for (std::int64_t i = 0; i < n; ++i)
        sum += a[at_a + static_cast<std::size_t>(i)] * b[at_b + static_cast<std::size_t>(i)];
    return sum;
}

/// y += factor * x
template <class Real>
void add_scaled(std::vector<Real>& y, std::size_t at_y, Real factor, const std::vector<Real>& x, std::size_t at_x,
                std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i)
        y[at_y + static_cast<std::size_t>(i)] += factor * x[at_x + static_cast<std::size_t>(i)];
}

/// The identity. Arithmetic whose matrix products round their operands passes another function as `operand`.
struct AsItIs {
    template <class Real> Real operator()(Real x) const { return x; }
};

/// out = sum over visible keys of softmax(scale * q.k) * v; lse = log sum exp of the scores. A query without visible
/// keys gets out 0 and lse -inf. operand is applied to exp(score - largest score) before its product with v.
template <class Real, class Operand = AsItIs>
void attention_forward(std::vector<Real>& out, std::vector<Real>& lse, const std::vector<Real>& q,
                       const std::vector<Real>& k, const std::vector<Real>& v, const AttentionProblem& p,
                       Operand operand = {}) {
    constexpr Real kInfinity = std::numeric_limits<Real>::infinity();
    out.assign(q.size(), 0);
    lse.assign(static_cast<std::size_t>(p.num_heads * p.num_queries), -kInfinity);
    std::vector<Real> score(static_cast<std::size_t>(p.num_keys));
    for (std::int64_t h = 0; h < p.num_heads; ++h) {
        for (std::int64_t t = 0; t < p.num_queries; ++t) {
            Real largest = -kInfinity, sum = 0;
            for (std::int64_t j = 0; j < p.num_keys; ++j) {
                Real& s = score[static_cast<std::size_t>(j)];
                s = p.visible(t, j, h) ? static_cast<Real>(p.scale) * dot(q, p.q_at(t, h), k, p.k_at(j, h), p.head_dim)
                                       : -kInfinity;
                largest = std::max(largest, s);
            }
            if (largest == -kInfinity) continue;
            for (Real s : score) sum += std::exp(s - largest);
            for (std::int64_t j = 0; j < p.num_keys; ++j) {
                if (p.visible(t, j, h))
                    add_scaled(out, p.q_at(t, h), operand(std::exp(score[static_cast<std::size_t>(j)] - largest)) / sum,
                               v, p.k_at(j, h), p.head_dim);
            }
            lse[p.lse_at(t, h)] = largest + std::log(sum);
        }
    }
}

/// d_q, d_k, d_v += gradients of sum(d_out * out), where out and lse are those over all keys. operand is applied to
/// probabilities and to gradients of scores before their products with rows.
template <class Real, class Operand = AsItIs>
void attention_backward(std::vector<Real>& d_q, std::vector<Real>& d_k, std::vector<Real>& d_v,
                        const std::vector<Real>& d_out, const std::vector<Real>& out, const std::vector<Real>& lse,
                        const std::vector<Real>& q, const std::vector<Real>& k, const std::vector<Real>& v,
                        const AttentionProblem& p, Operand operand = {}) {
    const Real scale = static_cast<Real>(p.scale);
    for (std::int64_t h = 0; h < p.num_heads; ++h) {
        for (std::int64_t t = 0; t < p.num_queries; ++t) {
            const std::size_t at_q = p.q_at(t, h);
            const Real delta = dot(d_out, at_q, out, at_q, p.head_dim);
            for (std::int64_t j = 0; j < p.num_keys; ++j) {
                if (!p.visible(t, j, h)) continue;
                const std::size_t at_k = p.k_at(j, h);
                const Real probability = std::exp(scale * dot(q, at_q, k, at_k, p.head_dim) - lse[p.lse_at(t, h)]);
                const Real d_score = probability * (dot(d_out, at_q, v, at_k, p.head_dim) - delta);
                add_scaled(d_v, at_k, operand(probability), d_out, at_q, p.head_dim);
                add_scaled(d_q, at_q, scale * operand(d_score), k, at_k, p.head_dim);
                add_scaled(d_k, at_k, scale * operand(d_score), q, at_q, p.head_dim);
            }
        }
    }
}

}  // namespace longlora::reference
