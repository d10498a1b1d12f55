// Forward attention in float32, one block per 32 queries and head. The block goes over the tiles of keys that its
// queries see. The recurrence is that of forward.cu, but the maximum is subtracted from a score before the difference
// is scaled, so that a query that sees one key gets p = 1 and out = v to the last bit.
#include "kernels/cuda/attention/float.cuh"
#include "kernels/cuda/attention/result.cuh"

namespace longlora::cuda {

namespace {

using namespace plain;

template <int kWidth> struct Running {
    Result<kWidth> o;
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {};
};

/// Sets s to -inf where a query does not see a key. The thread's queries are first_row and first_row + 16, its keys are
/// key and key + 16.
__device__ void mask(float (&s)[2][2], const HeadWindow& window, int first_row, int key) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const KeyRun seen = window.keys_of(first_row + 16 * i);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            if (!seen.contains(key + 16 * j)) s[i][j] = -INFINITY;
        }
    }
}

/// Combines the values of the 16 threads of a row.
template <class Operation> __device__ float over_row(float x, Operation&& operation) {
#pragma unroll
    for (int lanes = 8; lanes > 0; lanes /= 2) x = operation(x, __shfl_xor_sync(0xffffffffu, x, lanes));
    return x;
}

/// Turns s into p, updates the maxima, and brings sums and o to the new maxima.
template <int kWidth> __device__ void softmax_step(Running<kWidth>& r, float (&s)[2][2], float scale) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const float largest =
            fmaxf(r.max[i], over_row(fmaxf(s[i][0], s[i][1]), [](float a, float b) { return fmaxf(a, b); }));
        const float base = largest == -INFINITY ? 0 : largest,
                    decay = expf((r.max[i] - base) * scale);  // no key seen yet: p = exp(-inf) = 0
        r.max[i] = largest;
#pragma unroll
        for (float& p : s[i]) p = expf((p - base) * scale);
        r.sum[i] = fmaf(r.sum[i], decay, over_row(s[i][0] + s[i][1], [](float a, float b) { return a + b; }));
#pragma unroll
        for (float4& o : r.o.at[i]) o = {o.x * decay, o.y * decay, o.z * decay, o.w * decay};
    }
}

/// Turns o into the new part of out, sets keep[row] to the factor of the old out of that row, and writes lse.
template <int kWidth>
__device__ void finish(Running<kWidth>& r, float* keep, float* lse, int begin, int num_queries, float scale,
                       bool accumulate) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const int row = thread_y() + 16 * i, t = begin + row;
        const bool writes = thread_x() == 0 && t < num_queries;
        const float sum = r.sum[i], own = sum == 0 ? -INFINITY : r.max[i] * scale + logf(sum);
        const MergedResult merged = merge_result(own, sum, accumulate && writes ? lse[t] : -INFINITY);
        if (thread_x() == 0) keep[row] = merged.kept;
        if (writes) lse[t] = merged.lse;
        const float factor = __shfl_sync(0xffffffffu, merged.own_factor, 0, 16);
#pragma unroll
        for (float4& o : r.o.at[i]) o = {o.x * factor, o.y * factor, o.z * factor, o.w * factor};
    }
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 2) attention_forward_float_kernel(const ForwardProblem p) {
    extern __shared__ __align__(16) float memory[];
    float *const q = memory, *const k = q + kTileFloats<kWidth>, *const v = k + kTileFloats<kWidth>;
    float *const scores = v + kTileFloats<kWidth>, *const keep = scores + kScoreFloats;
    const int head = static_cast<int>(blockIdx.y), begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;
    const HeadWindow window(p, head);
    const TileRanges keys = tiles_of_keys(window, begin, kTile, kTile);
    if (keys.seen.empty() && p.accumulate) return;

    Running<kWidth> running;
    load<kWidth>(q, p.q.of_head(head, p.head_dim), begin, p.num_queries, p.head_dim);
    for (int tile = keys.seen.begin; tile < keys.seen.end; ++tile) {
        __syncthreads();  // no thread reads the previous tiles any more
        load<kWidth>(k, p.k.of_head(head / p.group, p.head_dim), tile * kTile, p.num_keys, p.head_dim);
        load<kWidth>(v, p.v.of_head(head / p.group, p.head_dim), tile * kTile, p.num_keys, p.head_dim);
        __syncthreads();
        float s[2][2];
        multiply_rows<kWidth>(s, q, k, p.head_dim);
        if (!keys.full.contains(tile)) mask(s, window, begin + thread_y(), tile * kTile + thread_x());
        softmax_step<kWidth>(running, s, p.scale);
        multiply_columns<kWidth>(running.o, scores, s, v);
    }

    finish<kWidth>(running, keep, p.lse.of_head(head), begin, p.num_queries, p.scale, p.accumulate);
    __syncthreads();  // no thread reads Q any more
    store<kWidth>(q, running.o);
    __syncthreads();
    const Matrix out = p.out.of_head(head, p.head_dim);
    for_places<kWidth>([&](int row, int column) {
        if (begin + row >= p.num_queries || column >= p.head_dim) return;
        float* const at = reinterpret_cast<float*>(out.at(begin + row, column));
        const float kept = keep[row], own = q[row * kStride<kWidth> + column];
        *at = kept == 0 ? own : fmaf(kept, *at, own);
    });
}

}  // namespace

void forward_float(cudaStream_t stream, const ForwardProblem& p) {
    with_width(p.head_dim, [&](auto width) {
        const dim3 grid(static_cast<unsigned>((p.num_queries + kTile - 1) / kTile), static_cast<unsigned>(p.num_heads));
        launch(stream, attention_forward_float_kernel<width()>, grid, kThreads,
               4 * (3 * kTileFloats<width()> + kScoreFloats + kTile), p);
    });
}

}  // namespace longlora::cuda
