// delta[h, t] = sum_e d_out * out = sum_j p_j (d_out . v_j) in bfloat16, which backward subtracts from every d_out . v
// of the query. The kernel reads d_out and out once and writes delta once. The float32 kernel is in float_backward.cu.
//
// delta is the diagonal of dO O^T. The same instructions compute it in the same order as dP = dO V^T. So a query that
// sees one key, whose out is v, gets ds = 0 to the last bit. The kernel uses only 1/16 of its products, which costs
// nothing beside reading d_out and out.
#include "kernels/cuda/attention/tiles.cuh"

namespace longlora::cuda {

namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps, kQueries = 16 * kWarps;

template <int kWidth> __global__ void __launch_bounds__(kThreads) attention_delta_kernel(const BackwardProblem p) {
    constexpr int kBytes = kQueries * kRowBytes<kWidth>;
    extern __shared__ __align__(128) unsigned char shared[];
    const unsigned tiles = shared_address(shared);
    const int head = static_cast<int>(blockIdx.y), begin = static_cast<int>(blockIdx.x) * kQueries;
    TileCopy<kWidth, kQueries, kThreads>(p.d_out.of_head(head, p.head_dim), p.num_queries, p.head_dim)(tiles, begin);
    TileCopy<kWidth, kQueries, kThreads>(p.out.of_head(head, p.head_dim), p.num_queries, p.head_dim)(tiles + kBytes,
                                                                                                     begin);
    wait_for_copies();
    __syncthreads();

    const int first = static_cast<int>(threadIdx.x) / 32 * 16, lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4;
    float products[1][2][4] = {};
    const unsigned rows = tiles + first * kRowBytes<kWidth>;
    multiply_rows<kWidth, 1, 1>(products, TileAddress<kWidth>::by_rows(rows),
                                TileAddress<kWidth>::by_chunks(rows).below(kQueries));
    // Only the lane whose columns 2(l%4) and 2(l%4)+1 include g continues: it holds (g, g) in the first block and
    // (g+8, g+8) in the second.
    if (lane % 4 != g / 2) return;
    float* const delta = p.delta.of_head(head);
    const int t = begin + first + g;
    if (t < p.num_queries) delta[t] = g % 2 ? products[0][0][1] : products[0][0][0];
    if (t + 8 < p.num_queries) delta[t + 8] = g % 2 ? products[0][1][3] : products[0][1][2];
}

}  // namespace

void delta_bf16(cudaStream_t stream, const BackwardProblem& p) {
    with_width(p.head_dim, [&](auto width) {
        const dim3 grid(static_cast<unsigned>((p.num_queries + kQueries - 1) / kQueries),
                        static_cast<unsigned>(p.num_heads));
        launch(stream, attention_delta_kernel<width()>, grid, kThreads, 2 * kQueries * kRowBytes<width()>, p);
    });
}

}  // namespace longlora::cuda
