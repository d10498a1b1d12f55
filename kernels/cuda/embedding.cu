// Rows out of a table, and gradients back into it in the order of the tokens without atomics: the tokens are sorted by row of the table (and by t within one), then the
// first token of each row adds all of the row's tokens.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/types.h"

namespace longlora::cuda {
namespace {

template <class Out, class Table> struct EmbeddingGather {
    static constexpr int kElements = kPack<Out, Table>;
    Rows<Out> out;
    Rows<const Table> table;
    const int* ids;
    bool aligned;
    __device__ void operator()(std::int64_t row, unsigned column, int count) const {
        float values[kElements];
        load(values, table.at(ids[row], column), count, aligned);
        store(out.at(row, column), values, count, aligned);
    }
};

/// Row of the table above, token below: all different, in the order wanted.
using Key = unsigned long long;
inline __device__ unsigned row_of(Key key) { return static_cast<unsigned>(key >> 32); }
inline __device__ unsigned token_of(Key key) { return static_cast<unsigned>(key); }

/// Sorted runs of kThreads keys: the place of a key is the number of smaller ones.
__global__ void __launch_bounds__(kThreads) sort_runs_kernel(Key* keys, const int* ids, unsigned count) {
    __shared__ Key run[kThreads];
    const unsigned begin = blockIdx.x * kThreads, token = begin + threadIdx.x, length = min(kThreads, count - begin);
    const Key own = token < count ? Key{static_cast<unsigned>(ids[token])} << 32 | token : 0;
    run[threadIdx.x] = own;
    __syncthreads();
    if (token >= count) return;
    unsigned place = 0;
    for (unsigned i = 0; i < length; ++i) place += run[i] < own;
    keys[begin + place] = own;
}

/// Sorted runs of 2 * length keys out of runs of `length`: a key moves by the number of smaller ones in the other run.
__global__ void __launch_bounds__(kThreads) merge_runs_kernel(Key* to, const Key* from, unsigned count, unsigned length) {
    const unsigned at = blockIdx.x * kThreads + threadIdx.x;
    if (at >= count) return;
    const Key own = from[at];
    const unsigned run = at / length, pair = run / 2 * 2 * length, other = run % 2 ? pair : min(pair + length, count);
    unsigned begin = other, end = min(other + length, count);   // the first key of the other run that is not smaller lies in [begin, end]
    while (begin < end) {
        const unsigned middle = begin + (end - begin) / 2;
        if (from[middle] < own)
            begin = middle + 1;
        else
            end = middle;
    }
    to[pair + (at - run * length) + (begin - other)] = own;
}

/// Row i of the sheet stands for key i, which works if it is the first of its row of the table.
template <class T> struct EmbeddingAddTokens {
    static constexpr int kElements = kPack<float>, kAhead = 4;   // tokens that are on their way at once
    Rows<float> table;
    Rows<const T> d_out;
    const Key* keys;
    unsigned num_keys;
    bool aligned;
    __device__ void operator()(std::int64_t i, unsigned column, int count) const {
        const unsigned first = static_cast<unsigned>(i), table_row = row_of(keys[first]);
        if (first > 0 && row_of(keys[first - 1]) == table_row) return;
        float sum[kElements], values[kAhead][kElements];
        float* to = table.at(table_row, column);
        load(sum, to, count, aligned);
        bool more = true;
        for (unsigned at = first; more; at += kAhead) {
            bool mine[kAhead];
#pragma unroll
            for (unsigned k = 0; k < kAhead; ++k) {
                const Key key = at + k < num_keys ? keys[at + k] : ~Key{0};
                mine[k] = row_of(key) == table_row;
                if (mine[k]) load(values[k], d_out.at(token_of(key), column), count, aligned);
            }
#pragma unroll
            for (unsigned k = 0; k < kAhead; ++k)
                if (mine[k])
#pragma unroll
                    for (int e = 0; e < kElements; ++e) sum[e] += values[k][e];
            more = mine[kAhead - 1];
        }
        store(to, sum, count, aligned);
    }
};

/// The keys of ids in order, in scratch (two pieces of `count` keys).
const Key* sorted_keys(cudaStream_t stream, const Tensor& scratch, const Tensor& ids) {
    const auto count = static_cast<unsigned>(ids.count()), num_blocks = (count + kThreads - 1) / kThreads;
    Key *keys = pointer_to<Key>(scratch), *other = keys + count;
    sort_runs_kernel<<<num_blocks, kThreads, 0, stream>>>(keys, pointer_to<const int>(ids), count);
    check(cudaGetLastError(), "embedding_backward");
    for (unsigned length = kThreads; length < count; length *= 2) {
        merge_runs_kernel<<<num_blocks, kThreads, 0, stream>>>(other, keys, count, length);
        check(cudaGetLastError(), "embedding_backward");
        std::swap(keys, other);
    }
    return keys;
}

}  // namespace

void embedding_forward(cudaStream_t stream, Tensor out, Tensor table, Tensor ids) {
    with_types(out.dtype, table.dtype, [&](auto out_type, auto table_type) {
        using Out = typename decltype(out_type)::type;
        using Table = typename decltype(table_type)::type;
        const EmbeddingGather<Out, Table> gather{rows_of<Out>(out), rows_of<const Table>(table), pointer_to<const int>(ids), packs_aligned(kPack<Out, Table>, out, table)};
        elementwise(stream, "embedding_forward", gather, out.num_rows(), out.width());
    });
}

void embedding_backward(cudaStream_t stream, Tensor scratch, Tensor d_table, Tensor d_out, Tensor ids) {
    if (d_out.count() == 0) return;
    const std::int64_t most = std::min<std::int64_t>(scratch.size_bytes() / (2 * std::int64_t{sizeof(Key)}), std::int64_t{1} << 30);   // tokens at a time, in their order
    for (std::int64_t begin = 0; begin < ids.count(); begin += most) {
        const std::int64_t n = std::min(most, ids.count() - begin);
        const Tensor rows = d_out.rows(begin, n);
        const Key* keys = sorted_keys(stream, scratch, ids.slice(begin, n));
        with_type(d_out.dtype, [&](auto type) {
            using T = typename decltype(type)::type;
            const EmbeddingAddTokens<T> add{rows_of<float>(d_table), rows_of<const T>(rows), keys, static_cast<unsigned>(n), packs_aligned(kPack<float>, d_table, rows)};
            elementwise(stream, "embedding_backward", add, n, rows.width());
        });
    }
}

}  // namespace longlora::cuda
