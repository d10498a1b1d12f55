// Backward attention in float32: delta, then dK and dV by blocks that own keys, then dQ by blocks that own queries.
// backward.cuh has the formulas and the reason for two kernels.
#include <cmath>

#include "kernels/cuda/attention/float.cuh"

namespace longlora::cuda {

namespace {

using namespace plain;

/// delta[h, t] = sum_e d_out * out, summed in the order in which multiply_rows sums d_out . v. So a query that sees one
/// key, whose out is v, gets ds = 0 to the last bit.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) attention_delta_float_kernel(const BackwardProblem p) {
    extern __shared__ __align__(16) float memory[];
    float *const d_out = memory, *const out = d_out + kTileFloats<kWidth>;
    const int head = static_cast<int>(blockIdx.y), begin = static_cast<int>(blockIdx.x) * kTile,
              row = static_cast<int>(threadIdx.x);
    load<kWidth>(d_out, p.d_out.of_head(head, p.head_dim), begin, p.num_queries, p.head_dim);
    load<kWidth>(out, p.out.of_head(head, p.head_dim), begin, p.num_queries, p.head_dim);
    __syncthreads();
    if (row >= kTile || begin + row >= p.num_queries) return;
    float sum = 0;
#pragma unroll 8
    for (int e = 0; e < p.head_dim; ++e)
        sum = fmaf(d_out[row * kStride<kWidth> + e], out[row * kStride<kWidth> + e], sum);
    p.delta.of_head(head)[begin + row] = sum;
}

struct Probability {
    float p, ds;
};

/// p and ds of a pair, from its products q.k (score) and d_out.v (d_p). Both are 0 for queries that do not exist.
__device__ Probability probability(const BackwardProblem& p, const float* lse, const float* delta, int t, bool visible,
                                   float score, float d_p) {
    if (!visible || t >= p.num_queries || lse[t] == -INFINITY) return {0, 0};
    const float x = expf(fmaf(p.scale, score, -lse[t]));
    return {x, x * (d_p - delta[t])};
}

/// dK and dV of a tile of keys and a key/value head. Keys are the rows of every product.
template <int kWidth>
__global__ void __launch_bounds__(kThreads, 2) attention_backward_keys_float_kernel(const BackwardProblem p) {
    extern __shared__ __align__(16) float memory[];
    float *const k = memory, *const v = k + kTileFloats<kWidth>, *const q = v + kTileFloats<kWidth>,
                 *const d_out = q + kTileFloats<kWidth>;
    float* const scores = d_out + kTileFloats<kWidth>;
    const int kv_head = static_cast<int>(blockIdx.y), begin = static_cast<int>(blockIdx.x) * kTile;
    load<kWidth>(k, p.k.of_head(kv_head, p.head_dim), begin, p.num_keys, p.head_dim);
    load<kWidth>(v, p.v.of_head(kv_head, p.head_dim), begin, p.num_keys, p.head_dim);
    Result<kWidth> d_k, d_v;
    for (int head = kv_head * p.group; head < (kv_head + 1) * p.group; ++head) {
        const HeadWindow window(p, head);
        const TileRanges queries = tiles_of_queries(window, begin, kTile, kTile);
        for (int tile = queries.seen.begin; tile < queries.seen.end; ++tile) {
            __syncthreads();  // no thread reads the previous tiles any more
            load<kWidth>(q, p.q.of_head(head, p.head_dim), tile * kTile, p.num_queries, p.head_dim);
            load<kWidth>(d_out, p.d_out.of_head(head, p.head_dim), tile * kTile, p.num_queries, p.head_dim);
            __syncthreads();
            float s[2][2], d_p[2][2];
            multiply_rows<kWidth>(s, k, q, p.head_dim);
            multiply_rows<kWidth>(d_p, v, d_out, p.head_dim);
            for (int i = 0; i < 2; ++i) {
                for (int j = 0; j < 2; ++j) {
                    const int t = tile * kTile + thread_x() + 16 * j;
                    const bool visible =
                        queries.full.contains(tile) || window.keys_of(t).contains(begin + thread_y() + 16 * i);
                    const Probability x =
                        probability(p, p.lse.of_head(head), p.delta.of_head(head), t, visible, s[i][j], d_p[i][j]);
                    s[i][j] = x.p, d_p[i][j] = x.ds;
                }
            }
            multiply_columns<kWidth>(d_v, scores, s, d_out);
            multiply_columns<kWidth>(d_k, scores, d_p, q);
        }
    }
    __syncthreads();
    add_rows<kWidth>(p.d_k.of_head(kv_head, p.head_dim), begin, p.num_keys, p.head_dim, p.scale, q, d_k);
    add_rows<kWidth>(p.d_v.of_head(kv_head, p.head_dim), begin, p.num_keys, p.head_dim, 1, d_out, d_v);
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 2) attention_backward_queries_float_kernel(const BackwardProblem p) {
    extern __shared__ __align__(16) float memory[];
    float *const q = memory, *const d_out = q + kTileFloats<kWidth>, *const k = d_out + kTileFloats<kWidth>,
                 *const v = k + kTileFloats<kWidth>;
    float* const scores = v + kTileFloats<kWidth>;
    const int head = static_cast<int>(blockIdx.y), begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;
    const HeadWindow window(p, head);
    const TileRanges keys = tiles_of_keys(window, begin, kTile, kTile);
    if (keys.seen.empty()) return;
    load<kWidth>(q, p.q.of_head(head, p.head_dim), begin, p.num_queries, p.head_dim);
    load<kWidth>(d_out, p.d_out.of_head(head, p.head_dim), begin, p.num_queries, p.head_dim);
    Result<kWidth> d_q;
    for (int tile = keys.seen.begin; tile < keys.seen.end; ++tile) {
        __syncthreads();  // no thread reads the previous tiles any more
        load<kWidth>(k, p.k.of_head(head / p.group, p.head_dim), tile * kTile, p.num_keys, p.head_dim);
        load<kWidth>(v, p.v.of_head(head / p.group, p.head_dim), tile * kTile, p.num_keys, p.head_dim);
        __syncthreads();
        float s[2][2], d_p[2][2];
        multiply_rows<kWidth>(s, q, k, p.head_dim);
        multiply_rows<kWidth>(d_p, d_out, v, p.head_dim);
        for (int i = 0; i < 2; ++i) {
            for (int j = 0; j < 2; ++j) {
                const int t = begin + thread_y() + 16 * i;
                const bool visible =
                    keys.full.contains(tile) || window.keys_of(t).contains(tile * kTile + thread_x() + 16 * j);
                d_p[i][j] =
                    probability(p, p.lse.of_head(head), p.delta.of_head(head), t, visible, s[i][j], d_p[i][j]).ds;
            }
        }
        multiply_columns<kWidth>(d_q, scores, d_p, k);
    }
    __syncthreads();
    add_rows<kWidth>(p.d_q.of_head(head, p.head_dim), begin, p.num_queries, p.head_dim, p.scale, k, d_q);
}

}  // namespace

void backward_float(cudaStream_t stream, const BackwardProblem& p) {
    with_width(p.head_dim, [&](auto width) {
        constexpr int kBytes = 4 * (4 * kTileFloats<width()> + kScoreFloats);
        const auto query_tiles = static_cast<unsigned>((p.num_queries + kTile - 1) / kTile),
                   key_tiles = static_cast<unsigned>((p.num_keys + kTile - 1) / kTile);
        const auto heads = static_cast<unsigned>(p.num_heads), kv_heads = static_cast<unsigned>(p.num_heads / p.group);
        launch(stream, attention_delta_float_kernel<width()>, {query_tiles, heads}, kThreads,
               4 * 2 * kTileFloats<width()>, p);
        launch(stream, attention_backward_keys_float_kernel<width()>, {key_tiles, kv_heads}, kThreads, kBytes, p);
        launch(stream, attention_backward_queries_float_kernel<width()>, {query_tiles, heads}, kThreads, kBytes, p);
    });
}

}  // namespace longlora::cuda
