// dQ in bfloat16, one block per tile of queries and head. The block goes over the tiles of keys that its queries see.
// backward.cuh has the formulas and the reason for two backward kernels.
//
// A warp owns 16 queries and keeps their Q and dO in registers as operands a. So it reads only K and V from shared
// memory.
#include "kernels/cuda/attention/backward.cuh"
#include "kernels/cuda/attention/rows.cuh"

namespace longlora::cuda {

namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;

template <int kWidth> struct Shape {
    static constexpr int kQueries = kWarps * 16, kKeys = kWidth > 64 ? 32 : 64, kB = kKeys / 16;
    static constexpr int kQueryBytes = kQueries * kRowBytes<kWidth>, kKeyBytes = kKeys * kRowBytes<kWidth>;
    // Shared memory: first Q and dO on their way to registers, then K and V of two tiles, at the end dQ as float32.
    static constexpr int kSharedBytes = 4 * kKeyBytes;
    static_assert(kSharedBytes >= 2 * kQueryBytes && kSharedBytes >= 4 * kWidth * kQueries);
};

/// What a warp keeps of its queries. lse (L of backward.cuh) and delta are those of rows g and g + 8.
template <int kWidth> struct Rows {
    std::uint32_t q[kWidth / 16][1][4], d_out[kWidth / 16][1][4];
    float lse[2], delta[2];
};

/// Sets p to 0 where a query does not see a key. The lane's queries are first_row + 8 half, its keys key + 8 n + b,
/// with half and b 0 or 1.
template <int kN> __device__ void mask(float (&p)[1][kN][4], const HeadWindow& window, int first_row, int key) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const KeyRun seen = window.keys_of(first_row + 8 * half);
#pragma unroll
        for (int n = 0; n < kN; ++n) {
#pragma unroll
            for (int b = 0; b < 2; ++b) {
                if (!seen.contains(key + 8 * n + b)) p[0][n][2 * half + b] = 0;
            }
        }
    }
}

/// One tile of keys.
template <int kWidth, bool kMasked>
__device__ __forceinline__ void step(float (&d_q)[1][kWidth / 8][4], const Rows<kWidth>& rows, TileAddress<kWidth> k,
                                     TileAddress<kWidth> k_transposed, float c, const HeadWindow& window, int first_row,
                                     int key) {
    constexpr int kB = Shape<kWidth>::kB, kN = 2 * kB;
    float p[1][kN][4] = {}, ds[1][kN][4] = {};
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) multiply_rows<kWidth, 1, kB>(p, rows.q[j], k, j);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) p[0][n][e] = exp2_fast(fmaf(p[0][n][e], c, -rows.lse[e / 2]));
    }
    if (kMasked) mask(p, window, first_row, key);
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j)
        multiply_rows<kWidth, 1, kB>(ds, rows.d_out[j], k.below(Shape<kWidth>::kKeys), j);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) ds[0][n][e] = p[0][n][e] * (ds[0][n][e] - rows.delta[e / 2]);
    }
    std::uint32_t operand[1][kB][4];
    as_operand<1, kB>(operand, ds);
    multiply_columns<kWidth, 1, kB>(d_q, operand, k_transposed);
}

/// Loads the block's queries [begin, ...): Q and dO through shared memory to registers, L and delta directly.
template <int kWidth>
__device__ void load_rows(Rows<kWidth>& rows, const BackwardProblem& p, int head, int begin, unsigned tiles) {
    using S = Shape<kWidth>;
    TileCopy<kWidth, S::kQueries, kThreads>(p.q.of_head(head, p.head_dim), p.num_queries, p.head_dim)(tiles, begin);
    TileCopy<kWidth, S::kQueries, kThreads>(p.d_out.of_head(head, p.head_dim), p.num_queries, p.head_dim)(
        tiles + S::kQueryBytes, begin);
    const int first = static_cast<int>(threadIdx.x) / 32 * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int t = begin + first + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * half;
        rows.lse[half] = t < p.num_queries ? scaled_lse(p.lse.of_head(head)[t]) : INFINITY;
        rows.delta[half] = t < p.num_queries ? p.delta.of_head(head)[t] : 0;
    }
    wait_for_copies();
    __syncthreads();
    const auto q = TileAddress<kWidth>::by_rows(tiles + first * kRowBytes<kWidth>), d_out = q.below(S::kQueries);
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) {
        load_matrices(rows.q[j][0], q.at(0, j));
        load_matrices(rows.d_out[j][0], d_out.at(0, j));
    }
    __syncthreads();  // the memory is free for keys
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 2) attention_backward_queries_kernel(const BackwardProblem p) {
    using S = Shape<kWidth>;
    extern __shared__ __align__(128) unsigned char shared[];
    const unsigned tiles = shared_address(shared);
    // Late queries come first, since they see most keys.
    const int head = static_cast<int>(blockIdx.y), begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) * S::kQueries;
    const HeadWindow window(p, head);
    const TileRanges keys = tiles_of_keys(window, begin, S::kQueries, S::kKeys);
    if (keys.seen.empty()) return;
    Rows<kWidth> rows;
    load_rows<kWidth>(rows, p, head, begin, tiles);

    using KeyCopy = TileCopy<kWidth, S::kKeys, kThreads>;
    const KeyCopy copy_k(p.k.of_head(head / p.group, p.head_dim), p.num_keys, p.head_dim),
        copy_v(p.v.of_head(head / p.group, p.head_dim), p.num_keys, p.head_dim);
    const auto copy_keys = [&](int tile, unsigned to) {
        copy_k(to, tile * S::kKeys);
        copy_v(to + S::kKeyBytes, tile * S::kKeys);
    };
    copy_keys(keys.seen.begin, tiles);
    const int first = static_cast<int>(threadIdx.x) / 32 * 16, lane = static_cast<int>(threadIdx.x) % 32;
    float d_q[1][kWidth / 8][4] = {};
    unsigned current = 0;
    for (int tile = keys.seen.begin; tile < keys.seen.end; ++tile) {
        wait_for_copies();
        __syncthreads();  // all threads see this tile, and none reads the previous one any more
        const unsigned k_tile = tiles + current * 2 * S::kKeyBytes;
        current ^= 1;
        if (tile + 1 < keys.seen.end) copy_keys(tile + 1, tiles + current * 2 * S::kKeyBytes);
        const auto k_rows = TileAddress<kWidth>::by_chunks(k_tile), k_columns = TileAddress<kWidth>::by_rows(k_tile);
        const int first_row = begin + first + lane / 4, key = tile * S::kKeys + lane % 4 * 2;
        if (keys.full.contains(tile))
            step<kWidth, false>(d_q, rows, k_rows, k_columns, p.scale_log2, window, first_row, key);
        else step<kWidth, true>(d_q, rows, k_rows, k_columns, p.scale_log2, window, first_row, key);
    }
    __syncthreads();  // no thread reads the tiles any more
    add_rows<kWidth, 1>(p.d_q.of_head(head, p.head_dim), begin + first, p.num_queries, p.head_dim, p.scale,
                        tiles + first * 4 * kWidth, d_q);
}

}  // namespace

void backward_queries_bf16(cudaStream_t stream, const BackwardProblem& p) {
    with_width(p.head_dim, [&](auto width) {
        using S = Shape<width()>;
        const dim3 grid(static_cast<unsigned>((p.num_queries + S::kQueries - 1) / S::kQueries),
                        static_cast<unsigned>(p.num_heads));
        launch(stream, attention_backward_queries_kernel<width()>, grid, kThreads, S::kSharedBytes, p);
    });
}

}  // namespace longlora::cuda
