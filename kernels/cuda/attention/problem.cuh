// ForwardProblem and BackwardProblem: the one argument of the attention kernels of a pass, with matrices, sizes and
// windows; and the functions that say which tiles of queries and of keys see each other. No arithmetic on values.
//
// Rows are local: query t is row t of q, key j is row j of k and v. The windows of kernels/windows.h count tokens of
// the whole sequence. With diagonal = query_begin - key_begin, query t sees the keys j with
//   first_key[query_begin + t] - key_begin <= j <= t + diagonal,   0 <= j < num_keys.
// first_key never decreases. So the keys that a tile of queries sees are a range, and so are the queries that see a
// tile of keys.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/cuda_check.h"

namespace longlora::cuda {

/// A matrix in device memory whose rows are float32 or bfloat16.
template <class Byte> struct MatrixView {
    Byte* bytes;
    int row_bytes;  ///< from one row to the next
    bool wide;      ///< true: float32, false: bfloat16
    bool aligned;   ///< every row of every head starts at a multiple of 16 bytes

    __device__ int element_bytes() const { return wide ? 4 : 2; }
    /// The columns of head `head`.
    __device__ MatrixView of_head(int head, int head_dim) const {
        return {bytes + static_cast<std::int64_t>(head) * head_dim * element_bytes(), row_bytes, wide, aligned};
    }
    /// The address of element `column` of row `row`.
    __device__ Byte* at(int row, int column) const {
        return bytes + column * element_bytes() + static_cast<std::int64_t>(row) * row_bytes;
    }
};
using Matrix = MatrixView<std::byte>;
using ConstMatrix = MatrixView<const std::byte>;

/// A float32 matrix (H,T): one number per head and query.
template <class Float> struct HeadRowsView {
    Float* values;
    std::int64_t stride;
    __device__ Float* of_head(int head) const { return values + head * stride; }
};
using HeadRows = HeadRowsView<float>;
using ConstHeadRows = HeadRowsView<const float>;

/// The inputs and sizes that forward and backward kernels read.
struct AttentionProblem {
    ConstMatrix q, k, v;
    const std::int32_t* first_key;  ///< the row of plain heads; that of shifted heads begins num_tokens elements later
    int num_tokens, num_plain_heads;
    int num_heads, group, head_dim;  ///< group: the number of query heads per key/value head
    int num_queries, num_keys, query_begin, key_begin;
    float scale, scale_log2;  ///< scale_log2 = scale * log2(e): exp(scale * s) = exp2(scale_log2 * s)
};

struct ForwardProblem : AttentionProblem {
    Matrix out;
    HeadRows lse;
    bool accumulate;
};

struct BackwardProblem : AttentionProblem {
    ConstMatrix d_out, out;
    ConstHeadRows lse;
    Matrix d_q, d_k, d_v;
    HeadRows delta;  ///< delta_bf16 and backward_float write it, the later kernels read it
};

/// The tiles or rows with numbers [begin, end).
struct Range {
    int begin, end;
    __device__ bool contains(int i) const { return i >= begin && i < end; }
    __device__ bool empty() const { return begin >= end; }
};

/// seen: the tiles with at least one visible pair of a query and a key. full: the tiles in which all pairs are
/// visible.
struct TileRanges {
    Range seen, full;
};

/// Keys [first, first + count). One comparison decides whether a key is among them.
struct KeyRun {
    int first;
    unsigned count;
    __device__ bool contains(int key) const { return static_cast<unsigned>(key - first) < count; }
};

/// The windows of one head in local rows.
struct HeadWindow {
    const std::int32_t* first_key;  ///< of query row 0
    int key_begin, diagonal, num_queries, num_keys;

    __device__ HeadWindow(const AttentionProblem& p, int head)
        : first_key(p.first_key + (head < p.num_plain_heads ? 0 : p.num_tokens) + p.query_begin),
          key_begin(p.key_begin),
          diagonal(p.query_begin - p.key_begin),
          num_queries(p.num_queries),
          num_keys(p.num_keys) {}

    /// The first key that query t sees. It may be negative or beyond the last key.
    __device__ int first(int t) const { return first_key[t] - key_begin; }
    /// The keys of this call that query t sees. Queries beyond the last see none.
    __device__ KeyRun keys_of(int t) const {
        const int from = first(min(t, num_queries - 1));
        return {from, t < num_queries ? static_cast<unsigned>(max(min(t + diagonal + 1, num_keys) - from, 0)) : 0u};
    }
};

/// The tiles of `tile` keys that the queries [begin, begin + n) see.
__device__ inline TileRanges tiles_of_keys(const HeadWindow& w, int begin, int n, int tile) {
    const int last = min(begin + n, w.num_queries) - 1;
    const int first = max(w.first(begin), 0), end = min(last + w.diagonal + 1, w.num_keys);
    if (first >= end) return {{0, 0}, {0, 0}};
    return {{first / tile, (end + tile - 1) / tile},
            {(max(w.first(last), 0) + tile - 1) / tile, max(min(begin + w.diagonal + 1, w.num_keys), 0) / tile}};
}

/// How many queries have first(t) <= key. Whole warps call it: each step tests 32 places of the range that is left.
__device__ inline int queries_beginning_by(const HeadWindow& w, int key) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    int begin = 0, end = w.num_queries;  // true for all queries before begin, false for all from end on
    while (begin < end) {
        const int step = (end - begin + 31) / 32, t = begin + (lane + 1) * step - 1;
        const int passed = __popc(__ballot_sync(0xffffffffu, t < end && w.first(t) <= key));
        const int next = begin + passed * step;
        end = min(next + step - 1, end);
        begin = next;
    }
    return begin;
}

/// The tiles of `tile` queries that see the keys [begin, begin + n). Whole warps call it.
__device__ inline TileRanges tiles_of_queries(const HeadWindow& w, int begin, int n, int tile) {
    const int last = min(begin + n, w.num_keys) - 1;
    const int first = max(begin - w.diagonal, 0), end = queries_beginning_by(w, last);
    if (first >= end) return {{0, 0}, {0, 0}};
    return {{first / tile, (end + tile - 1) / tile},
            {(max(last - w.diagonal, 0) + tile - 1) / tile, queries_beginning_by(w, begin) / tile}};
}

/// Launches a kernel with `shared_bytes` bytes of dynamic shared memory.
template <class Problem>
void launch(cudaStream_t stream, void (*kernel)(Problem), dim3 grid, int threads, int shared_bytes, const Problem& p) {
    const auto* function = reinterpret_cast<const void*>(kernel);
    if (shared_bytes > 48 * 1024)
        check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
              "cudaFuncSetAttribute");
    kernel<<<grid, threads, static_cast<std::size_t>(shared_bytes), stream>>>(p);
    check(cudaGetLastError(), "the launch of attention");
}

// The functions that attention.cu calls: NAME_bf16 is in NAME.cu, NAME_float in float_NAME.cu.
void forward_bf16(cudaStream_t stream, const ForwardProblem& p);
void delta_bf16(cudaStream_t stream, const BackwardProblem& p);
void backward_keys_bf16(cudaStream_t stream, const BackwardProblem& p);
void backward_queries_bf16(cudaStream_t stream, const BackwardProblem& p);
void forward_float(cudaStream_t stream, const ForwardProblem& p);
void backward_float(cudaStream_t stream, const BackwardProblem& p);

}  // namespace longlora::cuda
