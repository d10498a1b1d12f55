// merge_attention: two results of the same queries become one, row by row and head by head. attention_forward.cpp
// computes such results.
#include <cmath>
#include <limits>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace longlora::cpu {
namespace {

/// With r = exp(smaller - larger) in (0, 1], where smaller and larger are the two lse, the weights are 1 / (1 + r)
/// and r / (1 + r). They add up to 1 however large the lse are.
void merge_row(float* out, float& lse, const float* other_out, float other_lse, std::int64_t head_dim) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    if (other_lse == -kInfinity) return;
    if (lse == -kInfinity) {
        std::copy_n(other_out, head_dim, out);
        lse = other_lse;
        return;
    }
    const bool own_larger = lse >= other_lse;
    const float r = std::exp(own_larger ? other_lse - lse : lse - other_lse), of_larger = 1 / (1 + r),
                of_smaller = r / (1 + r);
    const float keep = own_larger ? of_larger : of_smaller, take = own_larger ? of_smaller : of_larger;
#pragma omp simd
    for (std::int64_t i = 0; i < head_dim; ++i) out[i] = keep * out[i] + take * other_out[i];
    lse = (own_larger ? lse : other_lse) + std::log1p(r);
}

}  // namespace

void merge_attention(const AttentionResult& result, const ConstAttentionResult& other) {
    const Rows<float> to(result.out), sums(result.lse);
    const Rows<const float> from(other.out), other_sums(other.lse);
    const std::int64_t num_queries = result.out.shape[0], num_heads = result.lse.shape[0],
                       head_dim = result.out.width() / num_heads;
#pragma omp parallel for schedule(static) if (result.out.count() > kParallelElements)
    for (std::int64_t t = 0; t < num_queries; ++t)
        for (std::int64_t h = 0; h < num_heads; ++h)
            merge_row(to[t] + h * head_dim, sums[h][t], from[t] + h * head_dim, other_sums[h][t], head_dim);
}

}  // namespace longlora::cpu
