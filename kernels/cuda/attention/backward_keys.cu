// dK and dV in bfloat16, one block per tile of keys and key/value head. The block goes over the query heads of its
// group, and for each head over the tiles of queries that see its keys, in order, so the sums need no atomics.
// backward.cuh has the formulas and the reason for two backward kernels.
//
// Scores are computed transposed, S^T = K Q^T, so that keys are the rows of every product. The first products leave P^T
// and dS^T in exactly the registers in which the second products (dV += P^T dO, dK += dS^T Q) need their operand a, and
// one warp alone adds to dK and dV of its keys.
#include "kernels/cuda/attention/backward.cuh"
#include "kernels/cuda/attention/rows.cuh"

namespace longlora::cuda {

namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;

template <int kWidth> struct Shape {
    static constexpr int kA = kWidth > 64 ? 1 : 2;  // blocks of 16 keys per warp: dK and dV fill 128 registers
    static constexpr int kKeys = kWarps * 16 * kA, kQueries = kWidth > 64 ? 32 : 64;
    static constexpr int kB = 2 / kA, kStep = 16 * kB,
                         kSteps = kQueries / kStep;  // a step takes kStep queries of a tile: p and ds fill 32 registers
    static constexpr int kKeyBytes = kKeys * kRowBytes<kWidth>, kQueryBytes = kQueries * kRowBytes<kWidth>;
    // Shared memory: K and V; Q and dO of two tiles; L and delta of two tiles. At the end the memory of the tiles holds
    // dK, then dV, as float32.
    static constexpr int kStatisticsOffset = 2 * kKeyBytes + 4 * kQueryBytes,
                         kSharedBytes = kStatisticsOffset + 2 * 2 * 4 * kQueries;
    static_assert(kStatisticsOffset >= 4 * kWidth * kKeys, "dK fits where the tiles were");
    static_assert(2 * kQueries <= kThreads, "one thread loads each number of the statistics");
};

template <int kWidth> struct Sums {
    float d_k[Shape<kWidth>::kA][kWidth / 8][4] = {}, d_v[Shape<kWidth>::kA][kWidth / 8][4] = {};
};

/// Where a warp reads its operands. V lies behind K, dO behind Q.
template <int kWidth> struct Places {
    TileAddress<kWidth> k, q, q_transposed;
    const float* statistics;  ///< L of the step's queries; their delta lies kQueries further
};

/// Which pairs of a lane are visible: bit (n * 2 + b) * 2 kA + i * 2 + half stands for query + 8 n + b and key
/// first_key + 16 i + 8 half. The bits take one register; the windows of all queries would take many.
template <int kA, int kN> __device__ std::uint32_t visible_pairs(const HeadWindow& window, int first_key, int query) {
    static_assert(kN * 2 * 2 * kA <= 32);
    std::uint32_t visible = 0;
#pragma unroll
    for (int q = 0; q < 2 * kN; ++q) {
        const KeyRun seen = window.keys_of(query + q / 2 * 8 + q % 2);
#pragma unroll
        for (int k = 0; k < 2 * kA; ++k) {
            if (seen.contains(first_key + 8 * k)) visible |= 1u << (q * 2 * kA + k);
        }
    }
    return visible;
}

/// One step, of kStep queries. `at` belongs to its first query; first_key and query are the lane's first key and query.
template <int kWidth, bool kMasked>
__device__ __forceinline__ void step(Sums<kWidth>& sums, const Places<kWidth>& at, float c, const HeadWindow& window,
                                     int first_key, int query) {
    constexpr int kA = Shape<kWidth>::kA, kB = Shape<kWidth>::kB, kN = 2 * kB;
    const int t = static_cast<int>(threadIdx.x) % 4;
    float p[kA][kN][4] = {}, ds[kA][kN][4] = {};
    const std::uint32_t visible = kMasked ? visible_pairs<kA, kN>(window, first_key, query) : 0;
    multiply_rows<kWidth, kA, kB>(p, at.k, at.q);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
        const float2 l = *reinterpret_cast<const float2*>(at.statistics + 8 * n + 2 * t);
#pragma unroll
        for (int i = 0; i < kA; ++i) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const bool hidden = kMasked && !(visible >> ((n * 2 + e % 2) * 2 * kA + i * 2 + e / 2) & 1);
                p[i][n][e] = hidden ? 0 : exp2_fast(fmaf(p[i][n][e], c, e % 2 ? -l.y : -l.x));
            }
        }
    }
    multiply_rows<kWidth, kA, kB>(ds, at.k.below(Shape<kWidth>::kKeys), at.q.below(Shape<kWidth>::kQueries));
#pragma unroll
    for (int n = 0; n < kN; ++n) {
        const float2 delta = *reinterpret_cast<const float2*>(at.statistics + Shape<kWidth>::kQueries + 8 * n + 2 * t);
#pragma unroll
        for (int i = 0; i < kA; ++i) {
#pragma unroll
            for (int e = 0; e < 4; ++e) ds[i][n][e] = p[i][n][e] * (ds[i][n][e] - (e % 2 ? delta.y : delta.x));
        }
    }
    std::uint32_t p_operand[kA][kB][4], ds_operand[kA][kB][4];
    as_operand<kA, kB>(p_operand, p);
    as_operand<kA, kB>(ds_operand, ds);
    multiply_columns<kWidth, kA, kB>(sums.d_v, p_operand, at.q_transposed.below(Shape<kWidth>::kQueries));
    multiply_columns<kWidth, kA, kB>(sums.d_k, ds_operand, at.q_transposed);
}

/// Loads the statistics of a tile of queries: thread i < kQueries loads L of query i, thread kQueries + i delta of
/// query i.
template <int kQueries> struct Statistics {
    const float* from;
    int row, num_queries;
    bool is_lse;
    __device__ Statistics(const BackwardProblem& p, int head)
        : row(static_cast<int>(threadIdx.x) % kQueries),
          num_queries(p.num_queries),
          is_lse(threadIdx.x < kQueries) {
        from = is_lse ? p.lse.of_head(head) : p.delta.of_head(head);
    }
    static __device__ bool mine() { return threadIdx.x < 2 * kQueries; }
    __device__ float operator()(int begin) const {
        const int t = begin + row;
        const float x = mine() && t < num_queries ? from[t] : is_lse ? -INFINITY : 0;
        return is_lse ? scaled_lse(x) : x;
    }
};

/// Adds all tiles of queries of one head that see the block's keys [begin, ...). Returns whether there are any.
template <int kWidth>
__device__ __forceinline__ bool add_head(Sums<kWidth>& sums, const BackwardProblem& p, int head, int begin,
                                         unsigned tiles, float* statistics) {
    using S = Shape<kWidth>;
    const HeadWindow window(p, head);
    const TileRanges steps = tiles_of_queries(window, begin, S::kKeys, S::kStep);
    if (steps.seen.empty()) return false;
    const Range tiles_seen{steps.seen.begin / S::kSteps, (steps.seen.end + S::kSteps - 1) / S::kSteps};
    using QueryCopy = TileCopy<kWidth, S::kQueries, kThreads>;
    const QueryCopy copy_q(p.q.of_head(head, p.head_dim), p.num_queries, p.head_dim),
        copy_d_out(p.d_out.of_head(head, p.head_dim), p.num_queries, p.head_dim);
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
    const unsigned query_tiles = tiles + 2 * S::kKeyBytes, warp_rows = tiles + warp * 16 * S::kA * kRowBytes<kWidth>;

    unsigned current = 0;  // which of the two places for tiles of queries holds the current tile
    const auto copy_queries = [&](int tile, unsigned place) {
        copy_q(query_tiles + place * 2 * S::kQueryBytes, tile * S::kQueries);
        copy_d_out(query_tiles + place * 2 * S::kQueryBytes + S::kQueryBytes, tile * S::kQueries);
    };
    __syncthreads();  // no thread reads the tiles of the previous head any more
    copy_queries(tiles_seen.begin, current);
    const Statistics<S::kQueries> statistic(p, head);
    if (statistic.mine()) statistics[thread] = statistic(tiles_seen.begin * S::kQueries);
    for (int tile = tiles_seen.begin; tile < tiles_seen.end; ++tile) {
        wait_for_copies();
        __syncthreads();  // all threads see this tile, and none reads the previous one any more
        float next = 0;
        if (tile + 1 < tiles_seen.end) {
            copy_queries(tile + 1, current ^ 1);
            next = statistic((tile + 1) * S::kQueries);
        }
        const int first_key = begin + warp * 16 * S::kA + lane / 4;
#pragma unroll 1
        for (int i = max(steps.seen.begin, tile * S::kSteps); i < min(steps.seen.end, (tile + 1) * S::kSteps); ++i) {
            const int row = (i - tile * S::kSteps) * S::kStep, query = i * S::kStep + lane % 4 * 2;
            const unsigned q_rows = query_tiles + current * 2 * S::kQueryBytes + row * kRowBytes<kWidth>;
            const Places<kWidth> at{TileAddress<kWidth>::by_rows(warp_rows), TileAddress<kWidth>::by_chunks(q_rows),
                                    TileAddress<kWidth>::by_rows(q_rows), statistics + current * 2 * S::kQueries + row};
            if (steps.full.contains(i)) step<kWidth, false>(sums, at, p.scale_log2, window, first_key, query);
            else step<kWidth, true>(sums, at, p.scale_log2, window, first_key, query);
        }
        current ^= 1;
        if (statistic.mine()) statistics[current * 2 * S::kQueries + thread] = next;  // read after the next barrier
    }
    return true;
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 2) attention_backward_keys_kernel(const BackwardProblem p) {
    using S = Shape<kWidth>;
    extern __shared__ __align__(128) unsigned char shared[];
    const unsigned tiles = shared_address(shared);
    float* const statistics = reinterpret_cast<float*>(shared + S::kStatisticsOffset);
    const int kv_head = static_cast<int>(blockIdx.y),
              begin = static_cast<int>(blockIdx.x) * S::kKeys;  // early keys first: most queries see them
    TileCopy<kWidth, S::kKeys, kThreads>(p.k.of_head(kv_head, p.head_dim), p.num_keys, p.head_dim)(tiles, begin);
    TileCopy<kWidth, S::kKeys, kThreads>(p.v.of_head(kv_head, p.head_dim), p.num_keys, p.head_dim)(tiles + S::kKeyBytes,
                                                                                                   begin);

    Sums<kWidth> sums;
    bool seen = false;
    for (int head = kv_head * p.group; head < (kv_head + 1) * p.group; ++head)
        seen |= add_head<kWidth>(sums, p, head, begin, tiles, statistics);

    wait_for_copies();
    if (!seen) return;
    __syncthreads();  // no thread reads the tiles any more
    const int first = static_cast<int>(threadIdx.x) / 32 * 16 * S::kA;
    const unsigned staging = tiles + first * 4 * kWidth;
    add_rows<kWidth, S::kA>(p.d_k.of_head(kv_head, p.head_dim), begin + first, p.num_keys, p.head_dim, p.scale, staging,
                            sums.d_k);
    __syncwarp();  // dK is written
    add_rows<kWidth, S::kA>(p.d_v.of_head(kv_head, p.head_dim), begin + first, p.num_keys, p.head_dim, 1, staging,
                            sums.d_v);
}

}  // namespace

void backward_keys_bf16(cudaStream_t stream, const BackwardProblem& p) {
    with_width(p.head_dim, [&](auto width) {
        using S = Shape<width()>;
        const dim3 grid(static_cast<unsigned>((p.num_keys + S::kKeys - 1) / S::kKeys),
                        static_cast<unsigned>(p.num_heads / p.group));
        launch(stream, attention_backward_keys_kernel<width()>, grid, kThreads, S::kSharedBytes, p);
    });
}

}  // namespace longlora::cuda
