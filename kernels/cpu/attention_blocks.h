// What forward and backward attention share around the tiles: the sizes of a call, copies of rows to and from float32
// blocks, and the scratch memory of a thread. The arithmetic is in attention_tiles_impl.h.
#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/instruction_set.h"
#include "kernels/ops.h"

namespace longlora::cpu {

constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

struct AttentionShape {
    std::int64_t head_dim, width;                             ///< E; E rounded up to whole vectors
    std::int64_t num_heads, num_kv_heads, group;              ///< H, K, H / K
    std::int64_t query_begin, query_end, key_begin, key_end;  ///< global tokens
    std::int64_t num_queries() const { return query_end - query_begin; }
};

AttentionShape attention_shape(const ConstTensor& q, const ConstTensor& k, const AttentionPlace& place,
                               std::int64_t lanes);
AttentionTiles attention_tiles(InstructionSet isa);
/// first_key of a query head, by token.
std::span<const std::int32_t> first_keys_of(const Windows& windows, std::int64_t head);

/// Copies rows [begin, begin + n) and columns [column, column + head_dim) of t, which is real, to out (padded_rows,
/// width) as float32. The other elements of out become 0.
void load_rows(float* out, const AttentionShape& shape, std::int64_t padded_rows, const ConstTensor& t,
               std::int64_t begin, std::int64_t n, std::int64_t column);

/// Rows of `width` floats as a tile reads them, `stride` floats apart. The columns from head_dim on hold 0, or
/// anything if the caller does not read them.
struct RowBlock {
    const float* p;
    std::int64_t stride;
};

/// The same rows and columns as load_rows. They are not copied if t itself can serve: it is float32; it has all
/// padded_rows; head_dim is a multiple of column_multiple; and its row stride does not put all rows into a few sets
/// of the cache. Otherwise load_rows copies them to buffer. Rows from n on may hold anything.
RowBlock block_of_rows(float* buffer, const AttentionShape& shape, std::int64_t padded_rows,
                       std::int64_t column_multiple, const ConstTensor& t, std::int64_t begin, std::int64_t n,
                       std::int64_t column);

/// Adds rows (n, width) to the same columns of rows [begin, begin + n) of t.
void add_rows(const Tensor& t, std::int64_t begin, std::int64_t n, std::int64_t column, const float* rows,
              const AttentionShape& shape);

/// out (columns, rows) = transpose of in (rows, columns). Both sizes are multiples of 8. Strides are in elements.
void transpose(float* out, std::int64_t out_stride, const float* in, std::int64_t in_stride, std::int64_t rows,
               std::int64_t columns);

/// Memory of the calling thread. The next Scratch of this thread uses the same memory. Parts are aligned to 64 bytes.
class Scratch {
public:
    explicit Scratch(std::int64_t num_floats);
    float* floats(std::int64_t n);
    std::int32_t* integers(std::int64_t n) { return reinterpret_cast<std::int32_t*>(floats(n)); }

private:
    float* next_;
    float* end_;
};

}  // namespace longlora::cpu
