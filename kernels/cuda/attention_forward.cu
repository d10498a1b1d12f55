// Forward attention in bfloat16 (FlashAttention-2, Dao 2023, algorithm 1): one block per tile of queries and head. It goes over the tiles of keys that its windows
// touch; the next tile is copied while this one is used. Float32 is attention_float.cu.
//
// A warp owns 32 queries as two blocks of 16, so each fragment of K and V serves four products. With s the unscaled scores of a tile, c = scale * log2(e):
//   m' = max(m, max_j s_j)    a = 2^(c m - c m')    p_j = 2^(c s_j - c m')    sum = a sum + sum_j p_j    o = a o + sum_j p_j v_j
// and in the end out = o / sum, lse = (c m + log2 sum) / log2(e). m is over the 4 lanes that share a row; sum stays a lane's own part until the end.
#include "kernels/cuda/attention_result.cuh"
#include "kernels/cuda/attention_tiles.cuh"

namespace longlora::cuda {

namespace {

constexpr int kA = 2;    // blocks of 16 queries of a warp

template <int kWidth> struct Shape {
    static constexpr int kQueries = kWarps * 16 * kA, kKeys = 32, kB = kKeys / 16;
    static constexpr int kQueryBytes = kQueries * kRowBytes<kWidth>, kKeyBytes = kKeys * kRowBytes<kWidth>;
    // Q; K and V of two tiles; in the end the same memory holds o as float32, and behind it what is kept of each row of an earlier result.
    static constexpr int kKeepOffset = kQueryBytes + 4 * kKeyBytes, kSharedBytes = kKeepOffset + 4 * kQueries;
    static_assert(kKeepOffset >= 4 * kWidth * kQueries, "o fits where the tiles were");
};

/// What a warp knows of its queries: rows g, g + 8 of block i are [i][0] and [i][1].
template <int kWidth> struct Running {
    float o[kA][kWidth / 8][4] = {};
    float max[kA][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}}, sum[kA][2] = {};
};

/// s = -inf where a query does not see a key. The lane's queries are first_row + 16 i + 8 half, its keys key + 8 n and the next.
template <int kN> __device__ void mask(float (&s)[kA][kN][4], const HeadWindow& window, int first_row, int key) {
#pragma unroll
    for (int i = 0; i < kA; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int t = first_row + 16 * i + 8 * half, from = key - window.first(min(t, window.num_queries - 1));
            const unsigned count = window.count(t);
#pragma unroll
            for (int n = 0; n < kN; ++n) {
#pragma unroll
                for (int b = 0; b < 2; ++b) {
                    if (static_cast<unsigned>(from + 8 * n + b) >= count) s[i][n][2 * half + b] = -INFINITY;
                }
            }
        }
    }
}

/// s becomes p; maxima, sums and o are brought to the new maxima.
template <int kWidth, int kN> __device__ __forceinline__ void softmax_step(Running<kWidth>& r, float (&s)[kA][kN][4], float c, bool masked) {
#pragma unroll
    for (int i = 0; i < kA; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float largest = r.max[i][half];
#pragma unroll
            for (int n = 0; n < kN; ++n) largest = fmaxf(largest, fmaxf(s[i][n][2 * half], s[i][n][2 * half + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
            const float base = masked && largest == -INFINITY ? 0.0f : largest * c;   // a row that has seen nothing yet: p = 2^-inf = 0
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
__device__ __forceinline__ void step(Running<kWidth>& r, TileAddress<kWidth> q, TileAddress<kWidth> k, TileAddress<kWidth> v, float c, const HeadWindow& window, int first_row, int key) {
    constexpr int kB = Shape<kWidth>::kB;
    float s[kA][2 * kB][4] = {};
    multiply_rows<kWidth, kA, kB>(s, q, k);
    if (kMasked) mask(s, window, first_row, key);
    softmax_step<kWidth>(r, s, c, kMasked);
    std::uint32_t p[kA][kB][4];
    as_operand<kA, kB>(p, s);
    multiply_columns<kWidth, kA, kB>(r.o, p, v);
}

/// o becomes the lane's part of out, except for the earlier result times the row's number in keep; lse is written.
template <int kWidth> __device__ void finish(Running<kWidth>& r, float* keep, const HeadWindow& window, float* lse, int first_row, int row_in_tile, float c, bool accumulate) {
    constexpr float kLn2 = 0.6931471805599453f;
    const int mine = static_cast<int>(threadIdx.x) % 4;     // each of the 4 lanes that share rows writes what belongs to one row
#pragma unroll
    for (int i = 0; i < kA; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float sum = r.sum[i][half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            const int t = first_row + 16 * i + 8 * half;
            const bool exists = t < window.num_queries;
            const float own = sum == 0 ? -INFINITY : (r.max[i][half] * c + log2f(sum)) * kLn2;
            const MergedResult merged = merge_result(own, sum, accumulate && exists ? lse[t] : -INFINITY);
#pragma unroll
            for (int n = 0; n < kWidth / 8; ++n) {
                r.o[i][n][2 * half] *= merged.own_factor;
                r.o[i][n][2 * half + 1] *= merged.own_factor;
            }
            __syncwarp();    // all 4 lanes have read lse
            if (mine == 2 * i + half) {
                keep[row_in_tile + 16 * i + 8 * half] = merged.kept;
                if (exists) lse[t] = merged.lse;
            }
        }
    }
}

template <int kWidth> __global__ void __launch_bounds__(kThreads, 2) attention_forward_kernel(const AttentionProblem p) {
    using S = Shape<kWidth>;
    extern __shared__ __align__(128) unsigned char shared[];
    const unsigned q_tile = shared_address(shared), k_tiles = q_tile + S::kQueryBytes;
    const int head = static_cast<int>(blockIdx.y), begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) * S::kQueries;   // late queries, which see most, first
    const HeadWindow window(p, head);
    const TileRanges keys = tiles_of_keys(window, begin, S::kQueries, S::kKeys);
    if (keys.seen.empty() && p.accumulate) return;
    const TileCopy<kWidth, S::kKeys> copy_k(p.k.of_head(head / p.group, p.head_dim), p.num_keys, p.head_dim), copy_v(p.v.of_head(head / p.group, p.head_dim), p.num_keys, p.head_dim);
    const auto copy_keys = [&](int tile, unsigned to) {
        copy_k(to, tile * S::kKeys);
        copy_v(to + S::kKeyBytes, tile * S::kKeys);
    };
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, row_in_tile = warp * 16 * kA + lane / 4;

    Running<kWidth> running;
    if (!keys.seen.empty()) {
        TileCopy<kWidth, S::kQueries>(p.q.of_head(head, p.head_dim), p.num_queries, p.head_dim)(q_tile, begin);
        copy_keys(keys.seen.begin, k_tiles);
    }
    const auto q_rows = TileAddress<kWidth>::by_rows(q_tile + warp * 16 * kA * kRowBytes<kWidth>);
    unsigned current = 0, other = 2 * S::kKeyBytes;
    for (int tile = keys.seen.begin; tile < keys.seen.end; ++tile) {
        wait_for_copies();
        __syncthreads();    // this tile has come for all; nobody reads the one before any more
        if (tile + 1 < keys.seen.end) copy_keys(tile + 1, k_tiles + other);
        const auto k_rows = TileAddress<kWidth>::by_chunks(k_tiles + current), v_rows = TileAddress<kWidth>::by_rows(k_tiles + current).below(S::kKeys);
        const int key = tile * S::kKeys + lane % 4 * 2;
        if (keys.full.contains(tile)) step<kWidth, false>(running, q_rows, k_rows, v_rows, p.scale_log2, window, begin + row_in_tile, key);
        else step<kWidth, true>(running, q_rows, k_rows, v_rows, p.scale_log2, window, begin + row_in_tile, key);
        const unsigned swap = current;
        current = other;
        other = swap;
    }
    __syncthreads();    // the tiles are free

    float* const keep = reinterpret_cast<float*>(shared + S::kKeepOffset);
    finish<kWidth>(running, keep, window, p.lse.of_head(head), begin + row_in_tile, row_in_tile, p.scale_log2, p.accumulate);
    const Matrix out = p.out.of_head(head, p.head_dim);
    const int first = warp * 16 * kA;
    for_rows<kWidth, kA>(q_tile + first * 4 * kWidth, running.o, p.head_dim, [&](int row, int chunk, Eight e) {
        const int t = begin + first + row;
        if (t >= p.num_queries) return;
        std::byte* const at = out.at(t, 8 * chunk);
        if (const float kept = keep[first + row]; kept != 0) {
            const Eight old = load_eight(out, at);
#pragma unroll
            for (int i = 0; i < 8; ++i) e.x[i] = fmaf(kept, old.x[i], e.x[i]);
        }
        store_eight(out, at, e);
    });
}

}  // namespace

void forward_bf16(cudaStream_t stream, const AttentionProblem& p) {
    with_width(p.head_dim, [&](auto width) {
        using S = Shape<width()>;
        const dim3 grid(static_cast<unsigned>((p.num_queries + S::kQueries - 1) / S::kQueries), static_cast<unsigned>(p.num_heads));
        launch(stream, attention_forward_kernel<width()>, grid, kThreads, S::kSharedBytes, p);
    });
}

}  // namespace longlora::cuda
