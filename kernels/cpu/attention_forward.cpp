// Forward attention. Blocks of queries are independent. Each one goes over the blocks of keys that its windows touch,
// and keeps a running maximum, sum and output. The arithmetic on tiles is in attention_tiles_impl.h.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_blocks.h"

namespace longlora::cpu {

namespace {

constexpr std::int64_t kKeyBlock = 64;
constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f,
                kInfinity = std::numeric_limits<float>::infinity();

struct Call {
    AttentionResult result;
    AttentionInputs inputs;
    const Windows& windows;
    AttentionShape shape;
    AttentionTiles tiles;
    float scale;
    bool accumulate;
    std::int64_t query_block;
};

/// The buffers of a thread for one block of queries. The panels of q_t lie one after the other, and so do those of
/// o_t.
struct Buffers {
    float *rows, *q_t, *o_t, *max, *sum, *k, *v, *s;
    std::int32_t *first_key, *token;

    static std::int64_t num_floats(const Call& c) {
        return 3 * c.query_block * c.shape.width + 4 * round_up(c.query_block, 16) + 2 * kKeyBlock * c.shape.width +
               kKeyBlock * c.tiles.panel + 64;
    }
    explicit Buffers(const Call& c) {
        Scratch scratch(num_floats(c));
        const std::int64_t block = c.query_block, w = c.shape.width;
        rows = scratch.floats(block * w), q_t = scratch.floats(block * w), o_t = scratch.floats(block * w);
        max = scratch.floats(block), sum = scratch.floats(block), first_key = scratch.integers(block),
        token = scratch.integers(block);
        k = scratch.floats(kKeyBlock * w), v = scratch.floats(kKeyBlock * w),
        s = scratch.floats(kKeyBlock * c.tiles.panel);
    }
};

struct Block {
    std::int64_t head, begin, end;  ///< queries [begin, end), global tokens
    std::span<const std::int32_t> first_key;
};

void start(const Call& c, const Block& block, const Buffers& b) {
    const std::int64_t n = block.end - block.begin, padded = round_up(n, c.tiles.panel), w = c.shape.width;
    load_rows(b.rows, c.shape, padded, c.inputs.q, block.begin - c.shape.query_begin, n, block.head * c.shape.head_dim);
    for (std::int64_t r = 0; r < padded; r += c.tiles.panel)
        transpose(b.q_t + r * w, c.tiles.panel, b.rows + r * w, w, c.tiles.panel, w);
    std::fill_n(b.o_t, padded * w, 0.0f);
    std::fill_n(b.max, padded, -kInfinity);
    std::fill_n(b.sum, padded, 0.0f);
    for (std::int64_t r = 0; r < padded; ++r) {
        b.first_key[r] = r < n ? block.first_key[block.begin + r] : std::numeric_limits<std::int32_t>::max();
        b.token[r] = static_cast<std::int32_t>(block.begin + r);
    }
}

/// Adds keys [begin, end), at most kKeyBlock, to the results of all panels of the block.
void add_keys(const Call& c, const Block& block, const Buffers& b, std::int64_t begin, std::int64_t end) {
    const std::int64_t n = end - begin, padded = round_up(n, 8), w = c.shape.width,
                       column = block.head / c.shape.group * c.shape.head_dim;
    const RowBlock k = block_of_rows(b.k, c.shape, padded, 8, c.inputs.k, begin - c.shape.key_begin, n, column);
    const RowBlock v = block_of_rows(b.v, c.shape, padded, 8, c.inputs.v, begin - c.shape.key_begin, n, column);
    ForwardTile t{};
    t.k = k.p, t.k_stride = k.stride, t.v = v.p, t.v_stride = v.stride, t.s = b.s;
    t.head_dim = c.shape.head_dim, t.width = w, t.scale = c.scale * kLog2e,
    t.key_begin = static_cast<std::int32_t>(begin);
    for (std::int64_t r = 0; r < block.end - block.begin; r += c.tiles.panel) {
        const std::int64_t first = block.begin + r, last = std::min(first + c.tiles.panel, block.end) - 1;
        t.lo = std::max<std::int64_t>(block.first_key[first], begin) - begin;
        t.hi = std::min(last + 1, end) - begin;
        if (t.lo >= t.hi) continue;
        t.full_lo = std::max(block.first_key[last] - begin, t.lo);
        t.full_hi = std::min(first + 1 - begin, t.hi);
        t.q_t = b.q_t + r * w, t.o_t = b.o_t + r * w, t.max = b.max + r, t.sum = b.sum + r,
        t.first_key = b.first_key + r, t.token = b.token + r;
        c.tiles.forward(t);
    }
}

/// Writes one row: o / sum to out, and its lse to *lse. With accumulate, merges them with the earlier values instead.
template <class Real>
void finish_row(Real* out, float* lse, const float* o, std::int64_t n, float max, float sum, bool accumulate) {
    const float own = sum == 0 ? -kInfinity : (max + std::log2(sum)) * kLn2;
    if (!accumulate || *lse == -kInfinity) {
        if (accumulate && own == -kInfinity) return;
        const float factor = sum == 0 ? 0 : 1 / sum;
        for (std::int64_t i = 0; i < n; ++i) out[i] = Real(o[i] * factor);
        *lse = own;
        return;
    }
    if (own == -kInfinity) return;
    const float larger = std::max(own, *lse),
                merged = larger + std::log(std::exp(own - larger) + std::exp(*lse - larger));
    const float keep = std::exp(*lse - merged), factor = std::exp(own - merged) / sum;
    for (std::int64_t i = 0; i < n; ++i) out[i] = Real(keep * out[i] + factor * o[i]);
    *lse = merged;
}

void finish(const Call& c, const Block& block, const Buffers& b) {
    const std::int64_t n = block.end - block.begin, w = c.shape.width, e = c.shape.head_dim,
                       row = block.begin - c.shape.query_begin;
    for (std::int64_t r = 0; r < n; r += c.tiles.panel)
        transpose(b.rows + r * w, w, b.o_t + r * w, c.tiles.panel, w, c.tiles.panel);
    const auto& [out, lse_rows] = c.result;
    float* lse = lse_rows.data<float>() + block.head * lse_rows.row_stride + row;
    for (std::int64_t r = 0; r < n; ++r) {
        const std::int64_t at = (row + r) * out.row_stride + block.head * e;
        if (out.dtype == DType::float32)
            finish_row(out.data<float>() + at, lse + r, b.rows + r * w, e, b.max[r], b.sum[r], c.accumulate);
        else finish_row(out.data<bf16>() + at, lse + r, b.rows + r * w, e, b.max[r], b.sum[r], c.accumulate);
    }
}

void run_block(const Call& c, const Block& block, const Buffers& b, const std::function<void()>* progress) {
    start(c, block, b);
    const std::int64_t origin = c.shape.key_begin, end = std::min(block.end, c.shape.key_end);
    std::int64_t begin = std::max<std::int64_t>(block.first_key[block.begin], origin);
    // The blocks of keys lie on a grid that starts at the first key. So the sums of a row do not depend on which rows
    // share its block of queries.
    while (begin < end) {
        const std::int64_t next = std::min(origin + ((begin - origin) / kKeyBlock + 1) * kKeyBlock, end);
        add_keys(c, block, b, begin, next);
        begin = next;
        if (progress) (*progress)();
    }
    finish(c, block, b);
}

}  // namespace

void attention_forward(const AttentionResult& result, const AttentionInputs& inputs, const Windows& windows,
                       const AttentionPlace& place, bool accumulate, InstructionSet isa,
                       const std::function<void()>& progress) {
    const AttentionTiles tiles = attention_tiles(isa);
    Call c{result, inputs,      windows,    attention_shape(inputs.q, inputs.k, place, tiles.lanes),
           tiles,  place.scale, accumulate, 0};
    const std::int64_t n = c.shape.num_queries(), heads = c.shape.num_heads;
    const bool plenty = heads * (n / 192) >= 4 * omp_get_max_threads();
    // Both are multiples of every panel. With a larger block keys are copied less often.
    c.query_block = plenty && c.shape.width <= 192 ? 192 : 96;
    const std::int64_t blocks = (n + c.query_block - 1) / c.query_block;
#pragma omp parallel
    {
        const Buffers buffers(c);
        const auto* call_progress = omp_get_thread_num() == 0 && progress ? &progress : nullptr;
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t i = 0; i < heads * blocks; ++i) {  // late blocks first: they see most keys
            const std::int64_t head = i % heads, begin = c.shape.query_begin + (blocks - 1 - i / heads) * c.query_block;
            const Block block{head, begin, std::min(begin + c.query_block, c.shape.query_end),
                              first_keys_of(windows, head)};
            run_block(c, block, buffers, call_progress);
        }
    }
}

}  // namespace longlora::cpu
