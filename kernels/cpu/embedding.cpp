// embedding_forward copies rows out of a table; embedding_backward adds gradients to its rows. A thread of
// embedding_backward owns some columns and adds all tokens in order, so every row of the table gets its tokens in
// order.
#include "kernels/cpu/operations.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace longlora::cpu {

void embedding_forward(Tensor out, ConstTensor table, ConstTensor ids) {
    with_type(out.dtype, [&](auto out_type) {
        with_type(table.dtype, [&](auto table_type) {
            using Out = decltype(out_type);
            using Table = decltype(table_type);
            const Rows<Out> y(out);
            const Rows<const Table> rows(table);
            const std::int32_t* id = ids.data<std::int32_t>();
            const std::int64_t width = out.width();
#pragma omp parallel for schedule(static) if (out.count() > kParallelElements)
            for (std::int64_t t = 0; t < ids.count(); ++t) {
                Out* to = y[t];
                const Table* from = rows[id[t]];
#pragma omp simd
                for (std::int64_t d = 0; d < width; ++d) put(to[d], float(from[d]));
            }
        });
    });
}

void embedding_backward(Tensor d_table, ConstTensor d_out, ConstTensor ids) {
    with_type(d_out.dtype, [&](auto type) {
        using T = decltype(type);
        constexpr std::int64_t kColumns = 32;  // two cache lines of the table, so that threads share none
        const Rows<float> table(d_table);
        const Rows<const T> gradient(d_out);
        const std::int32_t* id = ids.data<std::int32_t>();
        const std::int64_t width = d_out.width(), num_tokens = ids.count(),
                           num_blocks = (width + kColumns - 1) / kColumns;
#pragma omp parallel for schedule(static) if (d_out.count() > kParallelElements)
        for (std::int64_t block = 0; block < num_blocks; ++block) {
            const std::int64_t begin = block * kColumns, end = std::min(width, begin + kColumns);
            for (std::int64_t t = 0; t < num_tokens; ++t) {
                float* to = table[id[t]];
                const T* from = gradient[t];
#pragma omp simd
                for (std::int64_t d = begin; d < end; ++d) to[d] += float(from[d]);
            }
        }
    });
}

}  // namespace longlora::cpu
