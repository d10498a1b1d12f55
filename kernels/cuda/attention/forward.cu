// Forward attention in bfloat16 (FlashAttention-2, Dao 2023, algorithm 1), one block per 128 queries and head. The
// block goes over the tiles of keys that its queries see, and copies the next tile while it uses the current one.
// float_forward.cu does the same in float32.
//
// A warp keeps its queries in registers as operands a, and also keeps o there. With s the unscaled scores of a tile and
// c = scale * log2(e):
//   m' = max(m, max_j s_j)     a = 2^(c m - c m')         p_j = 2^(c s_j - c m')
//   sum = a sum + sum_j p_j    o = a o + sum_j p_j v_j
// At the end out = o / sum and lse = (c m + log2 sum) / log2(e). The 4 lanes that share a row share m; each of them
// keeps its own part of sum until the end.
#include "kernels/cuda/attention/result.cuh"
#include "kernels/cuda/attention/rows.cuh"
#include "kernels/cuda/attention/tiles.cuh"

namespace longlora::cuda {

namespace {

/// A warp owns kA blocks of 16 queries: two if there are enough registers, so that it uses each fragment of K and V for
/// twice as many products. The scores of a tile fill 32 registers.
template <int kWidth> struct Shape {
    static constexpr int kA = kWidth > 64 ? 1 : 2, kB = 4 / kA, kKeys = 16 * kB;
    static constexpr int kQueries = 128, kThreads = 32 * kQueries / (16 * kA),
                         kBlocksPerProcessor = kWidth > 64 ? 1 : 2;
    static constexpr int kQueryBytes = kQueries * kRowBytes<kWidth>, kKeyBytes = kKeys * kRowBytes<kWidth>;
    // Shared memory: K and V of two tiles; Q at the end until it is in registers. After the last tile the same memory
    // holds o as float32, and behind it the factors of the old out, one per row.
    static constexpr int kTileBytes = 4 * kWidth * kQueries, kQueryOffset = kTileBytes - kQueryBytes,
                         kSharedBytes = kTileBytes + 4 * kQueries;
    static_assert(4 * kKeyBytes <= kTileBytes && 2 * kKeyBytes <= kQueryOffset);
};

/// What a warp keeps of its queries. Rows g and g + 8 of block i have max and sum [i][0] and [i][1].
template <int kWidth> struct Running {
    static constexpr int kA = Shape<kWidth>::kA;
    std::uint32_t q[kWidth / 16][kA][4];
    float o[kA][kWidth / 8][4] = {}, max[kA][2], sum[kA][2] = {};
};

template <int kWidth> __device__ void start(Running<kWidth>& r) {
#pragma unroll
    for (int i = 0; i < Shape<kWidth>::kA; ++i) r.max[i][0] = r.max[i][1] = -INFINITY;
}

/// Loads the warp's rows of Q from shared memory.
template <int kWidth> __device__ void load_queries(Running<kWidth>& r, unsigned rows) {
    const auto q = TileAddress<kWidth>::by_rows(rows);
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) {
#pragma unroll
        for (int i = 0; i < Shape<kWidth>::kA; ++i) load_matrices(r.q[j][i], q.at(i, j));
    }
}

/// Sets s to -inf where a query does not see a key. The lane's queries are first_row + 16 i + 8 half, its keys
/// key + 8 n + b, with half and b 0 or 1.
template <int kA, int kN>
__device__ void mask(float (&s)[kA][kN][4], const HeadWindow& window, int first_row, int key) {
#pragma unroll
    for (int i = 0; i < kA; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const KeyRun seen = window.keys_of(first_row + 16 * i + 8 * half);
#pragma unroll
            for (int n = 0; n < kN; ++n) {
#pragma unroll
                for (int b = 0; b < 2; ++b) {
                    if (!seen.contains(key + 8 * n + b)) s[i][n][2 * half + b] = -INFINITY;
                }
            }
        }
    }
}

/// Turns s into p, updates the maxima, and brings sums and o to the new maxima.
template <int kWidth, int kA, int kN>
__device__ __forceinline__ void softmax_step(Running<kWidth>& r, float (&s)[kA][kN][4], float c, bool masked) {
#pragma unroll
    for (int i = 0; i < kA; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float largest = r.max[i][half];
#pragma unroll
            for (int n = 0; n < kN; ++n) largest = fmaxf(largest, fmaxf(s[i][n][2 * half], s[i][n][2 * half + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
            // A row that has seen no key yet: p = 2^-inf = 0.
            const float base = masked && largest == -INFINITY ? 0.0f : largest * c;
            const float decay = exp2_fast(fmaf(r.max[i][half], c, -base));
            r.max[i][half] = largest;
            float sum = 0;
#pragma unroll
            for (int n = 0; n < kN; ++n) {
#pragma unroll
                for (int b = 0; b < 2; ++b) {
                    float& p = s[i][n][2 * half + b];
                    p = exp2_fast(fmaf(p, c, -base));
                    sum += p;
                }
            }
            r.sum[i][half] = fmaf(r.sum[i][half], decay, sum);
#pragma unroll
            for (int n = 0; n < kWidth / 8; ++n) {
                r.o[i][n][2 * half] *= decay;
                r.o[i][n][2 * half + 1] *= decay;
            }
        }
    }
}

/// One tile of keys.
template <int kWidth, bool kMasked>
__device__ __forceinline__ void step(Running<kWidth>& r, TileAddress<kWidth> k, TileAddress<kWidth> v, float c,
                                     const HeadWindow& window, int first_row, int key) {
    constexpr int kA = Shape<kWidth>::kA, kB = Shape<kWidth>::kB;
    float s[kA][2 * kB][4] = {};
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) multiply_rows<kWidth, kA, kB>(s, r.q[j], k, j);
    if (kMasked) mask(s, window, first_row, key);
    softmax_step<kWidth>(r, s, c, kMasked);
    std::uint32_t p[kA][kB][4];
    as_operand<kA, kB>(p, s);
    multiply_columns<kWidth, kA, kB>(r.o, p, v);
}

/// Turns o into the lane's new part of out, sets keep[row] to the factor of the old out of that row, and writes lse.
/// Each of the 4 lanes that share 2 kA rows computes the factors of one row.
template <int kWidth>
__device__ void finish(Running<kWidth>& r, float* keep, const HeadWindow& window, float* lse, int first_row,
                       int row_in_tile, float c, bool accumulate) {
    constexpr float kLn2 = 0.6931471805599453f;
    constexpr int kA = Shape<kWidth>::kA, kRows = 2 * kA;
    const int lane = static_cast<int>(threadIdx.x) % 4, mine = lane % kRows;
    float sum = 0, largest = 0;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        float all = r.sum[i / 2][i % 2];
        all += __shfl_xor_sync(0xffffffffu, all, 1);
        all += __shfl_xor_sync(0xffffffffu, all, 2);
        if (mine == i) sum = all, largest = r.max[i / 2][i % 2];
    }
    const int t = first_row + 8 * mine;
    const bool writes = lane < kRows && t < window.num_queries;
    const float own = sum == 0 ? -INFINITY : (largest * c + log2f(sum)) * kLn2;
    const MergedResult merged = merge_result(own, sum, accumulate && writes ? lse[t] : -INFINITY);
    if (lane < kRows) keep[row_in_tile + 8 * mine] = merged.kept;
    if (writes) lse[t] = merged.lse;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        const float factor = __shfl_sync(0xffffffffu, merged.own_factor, i, 4);
#pragma unroll
        for (int n = 0; n < kWidth / 8; ++n) {
            r.o[i / 2][n][2 * (i % 2)] *= factor;
            r.o[i / 2][n][2 * (i % 2) + 1] *= factor;
        }
    }
}

template <int kWidth>
__global__ void __launch_bounds__(Shape<kWidth>::kThreads, Shape<kWidth>::kBlocksPerProcessor)
    attention_forward_kernel(const ForwardProblem p) {
    using S = Shape<kWidth>;
    constexpr int kA = S::kA;
    extern __shared__ __align__(128) unsigned char shared[];
    const unsigned tiles = shared_address(shared);
    // Late queries come first, since they see most keys.
    const int head = static_cast<int>(blockIdx.y), begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) * S::kQueries;
    const HeadWindow window(p, head);
    const TileRanges keys = tiles_of_keys(window, begin, S::kQueries, S::kKeys);
    if (keys.seen.empty() && p.accumulate) return;
    using KeyCopy = TileCopy<kWidth, S::kKeys, S::kThreads>;
    const KeyCopy copy_k(p.k.of_head(head / p.group, p.head_dim), p.num_keys, p.head_dim),
        copy_v(p.v.of_head(head / p.group, p.head_dim), p.num_keys, p.head_dim);
    const auto copy_keys = [&](int tile, unsigned place) {
        copy_k(tiles + place * 2 * S::kKeyBytes, tile * S::kKeys);
        copy_v(tiles + place * 2 * S::kKeyBytes + S::kKeyBytes, tile * S::kKeys);
    };
    const int first = static_cast<int>(threadIdx.x) / 32 * 16 * kA, lane = static_cast<int>(threadIdx.x) % 32,
              row_in_tile = first + lane / 4;

    Running<kWidth> running;
    start(running);
    if (!keys.seen.empty()) {
        TileCopy<kWidth, S::kQueries, S::kThreads>(p.q.of_head(head, p.head_dim), p.num_queries, p.head_dim)(
            tiles + S::kQueryOffset, begin);
        copy_keys(keys.seen.begin, 0);
        wait_for_copies();
        __syncthreads();
        load_queries(running, tiles + S::kQueryOffset + first * kRowBytes<kWidth>);
    }
    unsigned current = 0;  // which of the two places for tiles holds the current tile
    for (int tile = keys.seen.begin; tile < keys.seen.end; ++tile) {
        wait_for_copies();
        __syncthreads();  // all threads see this tile, and none reads the previous one any more
        if (tile + 1 < keys.seen.end) copy_keys(tile + 1, current ^ 1);
        const unsigned k_tile = tiles + current * 2 * S::kKeyBytes;
        const auto k = TileAddress<kWidth>::by_chunks(k_tile), v = TileAddress<kWidth>::by_rows(k_tile).below(S::kKeys);
        const int key = tile * S::kKeys + lane % 4 * 2;
        if (keys.full.contains(tile))
            step<kWidth, false>(running, k, v, p.scale_log2, window, begin + row_in_tile, key);
        else step<kWidth, true>(running, k, v, p.scale_log2, window, begin + row_in_tile, key);
        current ^= 1;
    }
    __syncthreads();  // no thread reads the tiles any more

    float* const keep = reinterpret_cast<float*>(shared + S::kTileBytes);
    finish<kWidth>(running, keep, window, p.lse.of_head(head), begin + row_in_tile, row_in_tile, p.scale_log2,
                   p.accumulate);
    write_rows<kWidth, kA>(p.out.of_head(head, p.head_dim), begin + first, p.num_queries, p.head_dim,
                           tiles + first * 4 * kWidth, running.o, [&](int row) {
                               return Weights{1, keep[first + row]};
                           });
}

}  // namespace

void forward_bf16(cudaStream_t stream, const ForwardProblem& p) {
    with_width(p.head_dim, [&](auto width) {
        using S = Shape<width()>;
        const dim3 grid(static_cast<unsigned>((p.num_queries + S::kQueries - 1) / S::kQueries),
                        static_cast<unsigned>(p.num_heads));
        launch(stream, attention_forward_kernel<width()>, grid, S::kThreads, S::kSharedBytes, p);
    });
}

}  // namespace longlora::cuda
