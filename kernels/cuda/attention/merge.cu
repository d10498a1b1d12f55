// merge_attention: merges two results of the same queries over different keys. The first kernel merges the rows of out
// and reads lse; the second one merges lse. result.cuh merges inside the forward kernels.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/operations.h"

namespace longlora::cuda {
namespace {

/// With r = exp(smaller - larger) in (0, 1], where smaller and larger are the two lse, the weights are 1 / (1 + r) and
/// r / (1 + r). They add up to 1 however large the lse are. A NaN stays a NaN.
struct MergeRows {
    static constexpr int kElements = kPack<float>;
    Rows<float> out;
    Rows<const float> lse, other_out, other_lse;
    unsigned num_heads, head_dim;
    bool aligned;
    __device__ void operator()(std::int64_t row, unsigned column, int count) const {
        const unsigned query = static_cast<unsigned>(row) / num_heads,
                       head = static_cast<unsigned>(row) - query * num_heads;
        const float a = *lse.at(head, query), b = *other_lse.at(head, query);
        if (b == -INFINITY) return;
        float *to = out.at(query, head * head_dim + column), x[kElements], y[kElements];
        load(y, other_out.at(query, head * head_dim + column), count, aligned);
        if (a != -INFINITY) {  // otherwise the old out is not read
            const bool own_larger = a >= b;
            const float r = expf(own_larger ? b - a : a - b), of_larger = 1 / (1 + r), of_smaller = r / (1 + r);
            const float keep = own_larger ? of_larger : of_smaller, take = own_larger ? of_smaller : of_larger;
            load(x, to, count, aligned);
#pragma unroll
            for (int i = 0; i < kElements; ++i) y[i] = keep * x[i] + take * y[i];
        }
        store(to, y, count, aligned);
    }
};

struct MergeSums {
    static constexpr int kElements = 1;
    Rows<float> lse;
    Rows<const float> other_lse;
    __device__ void operator()(std::int64_t head, unsigned query, int) const {
        const float a = *lse.at(head, query), b = *other_lse.at(head, query);
        if (b == -INFINITY) return;
        const float larger = a >= b ? a : b, smaller = a >= b ? b : a;
        *lse.at(head, query) = a == -INFINITY ? b : larger + log1pf(expf(smaller - larger));
    }
};

}  // namespace

void merge_attention(cudaStream_t stream, const AttentionResult& result, const ConstAttentionResult& other) {
    const auto& [out, lse] = result;
    const auto& [other_out, other_lse] = other;
    const std::int64_t num_queries = out.shape[0], num_heads = lse.shape[0], head_dim = out.width() / num_heads;
    ensure(num_queries * num_heads < (std::int64_t{1} << 32), "too many queries for a kernel");
    const bool aligned = packs_aligned(kPack<float>, out, other_out) && head_dim % kPack<float> == 0;
    const MergeRows rows{rows_of<float>(out),
                         rows_of<const float>(lse),
                         rows_of<const float>(other_out),
                         rows_of<const float>(other_lse),
                         static_cast<unsigned>(num_heads),
                         static_cast<unsigned>(head_dim),
                         aligned};
    elementwise(stream, "merge_attention", rows, num_queries * num_heads, head_dim);
    elementwise(stream, "merge_attention", MergeSums{rows_of<float>(lse), rows_of<const float>(other_lse)}, num_heads,
                num_queries);
}

}  // namespace longlora::cuda
