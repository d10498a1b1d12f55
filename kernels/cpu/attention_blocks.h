// What forward and backward attention share around the tiles: the shape of a call, packing of rows into float blocks,
// scratch memory of a thread. No arithmetic on values and no windows.
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/instruction_set.h"
#include "kernels/ops.h"

namespace longlora::cpu {

constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

struct AttentionShape {
    std::int64_t head_dim, width;                             ///< E, and E rounded up to whole vectors
    std::int64_t num_heads, num_kv_heads, group;              ///< H, K, H / K
    std::int64_t query_begin, query_end, key_begin, key_end;  ///< global tokens
    std::int64_t num_queries() const { return query_end - query_begin; }
};

AttentionShape attention_shape(const ConstTensor& q, const ConstTensor& k, const AttentionPlace& place,
                               std::int64_t lanes);
AttentionTiles attention_tiles(InstructionSet isa);

/// out (padded_rows, width) = columns [column, column + head_dim) of rows [begin, begin + n) of real t as float32; 0
/// elsewhere.
void load_rows(float* out, const AttentionShape& shape, std::int64_t padded_rows, const ConstTensor& t,
               std::int64_t begin, std::int64_t n, std::int64_t column);

/// Rows as a tile reads them: width floats each (those beyond head_dim are 0, or anything if the caller does not care),
/// stride apart.
struct RowBlock {
    const float* p;
    std::int64_t stride;
};

/// The same rows and columns without a copy where t itself will do: float32, every one of padded_rows and of the
/// columns up to head_dim rounded up to column_multiple inside of t and of this head, and no stride that puts all rows
/// into a few sets of the cache. Otherwise loaded into buffer. Rows beyond n hold anything.
RowBlock block_of_rows(float* buffer, const AttentionShape& shape, std::int64_t padded_rows,
                       std::int64_t column_multiple, const ConstTensor& t, std::int64_t begin, std::int64_t n,
                       std::int64_t column);

/// The same columns of rows [begin, begin + n) of t += rows (n, width).
void add_rows(const Tensor& t, std::int64_t begin, std::int64_t n, std::int64_t column, const float* rows,
              const AttentionShape& shape);

/// out (columns, rows) = in (rows, columns), both multiples of 8; row strides in elements.
void transpose(float* out, std::int64_t out_stride, const float* in, std::int64_t in_stride, std::int64_t rows,
               std::int64_t columns);

/// Memory of the calling thread that its next call takes over; parts start at 64 bytes.
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
