// embedding_forward copies rows out of a table. embedding_backward adds gradients to the rows in the order of the
// tokens, without atomics: token_order.cuh sorts the tokens by row, and for each row the threads of its first token add
// all of its tokens.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/token_order.cuh"
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

/// Row i of the sheet belongs to key i. If key i is the first of its row of the table, it adds all tokens of that row;
/// otherwise it does nothing.
template <class T> struct EmbeddingAddTokens {
    static constexpr int kElements = kPack<float>, kAhead = 4;  // kAhead: tokens loaded at the same time
    Rows<float> table;
    Rows<const T> d_out;
    const Key* keys;
    unsigned num_keys;
    bool aligned;
    __device__ void operator()(std::int64_t i, unsigned column, int count) const {
        const auto first = static_cast<unsigned>(i);
        const Key key = keys[first];
        const unsigned table_row = row_of(key);
        if (first > 0 && row_of(keys[first - 1]) == table_row) return;
        float sum[kElements], values[kAhead][kElements];
        float* to = table.at(table_row, column);
        load(sum, to, count, aligned);
        load(values[0], d_out.at(token_of(key), column), count, aligned);
#pragma unroll
        for (int e = 0; e < kElements; ++e) sum[e] += values[0][e];
        bool more = true;
        for (unsigned at = first + 1; more; at += kAhead) {
            bool mine[kAhead];
#pragma unroll
            for (unsigned k = 0; k < kAhead; ++k) {
                // In the first turn a thread reads a key only if the key before it belongs to the row. So rows with few
                // tokens, as most rows are, read only one key of another row. Later turns read all keys together.
                const bool wanted = more || at != first + 1;
                const Key next = wanted && at + k < num_keys ? keys[at + k] : ~key;
                mine[k] = more = more && row_of(next) == table_row;
                if (more) load(values[k], d_out.at(token_of(next), column), count, aligned);
            }
#pragma unroll
            for (unsigned k = 0; k < kAhead; ++k)
                if (mine[k])
#pragma unroll
                    for (int e = 0; e < kElements; ++e) sum[e] += values[k][e];
        }
        store(to, sum, count, aligned);
    }
};

}  // namespace

void embedding_forward(cudaStream_t stream, Tensor out, ConstTensor table, ConstTensor ids) {
    with_types(out.dtype, table.dtype, [&](auto out_type, auto table_type) {
        using Out = typename decltype(out_type)::type;
        using Table = typename decltype(table_type)::type;
        const EmbeddingGather<Out, Table> gather{rows_of<Out>(out), rows_of<const Table>(table),
                                                 pointer_to<const int>(ids),
                                                 packs_aligned(kPack<Out, Table>, out, table)};
        elementwise(stream, "embedding_forward", gather, out.num_rows(), out.width());
    });
}

void embedding_backward(cudaStream_t stream, Tensor scratch, Tensor d_table, ConstTensor d_out, ConstTensor ids) {
    if (d_out.count() == 0) return;
    const std::int64_t most = std::min<std::int64_t>(scratch.size_bytes() / (2 * std::int64_t{sizeof(Key)}),
                                                     std::int64_t{1} << 30);  // tokens per pass
    for (std::int64_t begin = 0; begin < ids.count(); begin += most) {
        const std::int64_t n = std::min(most, ids.count() - begin);
        const ConstTensor rows = d_out.rows(begin, n);
        const Key* keys = tokens_in_order(stream, scratch, ids.slice(begin, n));
        with_type(d_out.dtype, [&](auto type) {
            using T = typename decltype(type)::type;
            const EmbeddingAddTokens<T> add{rows_of<float>(d_table), rows_of<const T>(rows), keys,
                                            static_cast<unsigned>(n), packs_aligned(kPack<float>, d_table, rows)};
            elementwise(stream, "embedding_backward", add, n, rows.width());
        });
    }
}

}  // namespace longlora::cuda
