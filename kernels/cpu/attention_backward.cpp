// Backward attention. A task is one key/value head and one chunk of keys. It owns dK and dV of these keys, and goes
// over the queries that see them, in all query heads of the group. dQ of a block of queries gets parts from several
// chunks, always in the order of the chunks: a counter per head and block says which chunk is next. Threads take
// tasks in order, so the oldest unfinished task never waits, and no sum depends on threads or timing. A bfloat16 dQ
// would be rounded once per chunk. So a second pass computes it, in which a task owns one block of queries.
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/attention_blocks.h"

namespace longlora::cpu {

namespace {

constexpr std::int64_t kKeyChunk = 96, kQueryBlock = 96;  // multiples of every panel
constexpr float kLog2e = 1.4426950408889634f, kInfinity = std::numeric_limits<float>::infinity();

struct Call {
    AttentionGradients gradients;
    AttentionBackwardInputs inputs;
    Tensor delta;
    const Windows& windows;
    AttentionShape shape;
    AttentionTiles tiles;
    float scale;

    std::span<const std::int32_t> first_key(std::int64_t head) const { return first_keys_of(windows, head); }
    std::int64_t num_chunks() const { return (shape.key_end - shape.key_begin + kKeyChunk - 1) / kKeyChunk; }
    std::int64_t num_blocks() const { return (shape.num_queries() + kQueryBlock - 1) / kQueryBlock; }
};

/// One chunk of keys. The panels of k_t lie one after the other, and so do those of v_t.
struct KeyBuffers {
    float *k, *k_t, *v_t, *d_k, *d_v;
    std::int32_t* key;

    static std::int64_t num_floats(const Call& c) { return 5 * kKeyChunk * c.shape.width + kKeyChunk; }
    KeyBuffers(Scratch& scratch, const Call& c) {
        for (float** part : {&k, &k_t, &v_t, &d_k, &d_v}) *part = scratch.floats(kKeyChunk * c.shape.width);
        key = scratch.integers(kKeyChunk);
    }
};

struct QueryBuffers {
    float *q, *d_out, *d_q, *lse, *delta, *p, *ds;

    static std::int64_t num_floats(const Call& c) {
        return 3 * kQueryBlock * c.shape.width + 2 * kQueryBlock + 2 * kQueryBlock * c.tiles.panel;
    }
    QueryBuffers(Scratch& scratch, const Call& c) {
        for (float** part : {&q, &d_out, &d_q}) *part = scratch.floats(kQueryBlock * c.shape.width);
        lse = scratch.floats(kQueryBlock), delta = scratch.floats(kQueryBlock);
        p = scratch.floats(kQueryBlock * c.tiles.panel), ds = scratch.floats(kQueryBlock * c.tiles.panel);
    }
};

struct Buffers {
    Scratch scratch;
    KeyBuffers keys;
    QueryBuffers queries;
    explicit Buffers(const Call& c)
        : scratch(KeyBuffers::num_floats(c) + QueryBuffers::num_floats(c)),
          keys(scratch, c),
          queries(scratch, c) {}
};

/// Tokens [begin, end) of the whole sequence; in some functions, numbers of chunks or blocks.
struct Range {
    std::int64_t begin, end;
};

Range chunk_of(const Call& c, std::int64_t i) {
    const std::int64_t begin = c.shape.key_begin + i * kKeyChunk;
    return {begin, std::min(begin + kKeyChunk, c.shape.key_end)};
}

Range block_of(const Call& c, std::int64_t i) {
    const std::int64_t begin = c.shape.query_begin + i * kQueryBlock;
    return {begin, std::min(begin + kQueryBlock, c.shape.query_end)};
}

/// The numbers of the chunks that a block of queries sees. The keys that it sees have no gap, since every query sees
/// itself.
Range chunks_seen(const Call& c, std::span<const std::int32_t> first_key, Range queries) {
    const std::int64_t begin = std::max<std::int64_t>(first_key[queries.begin], c.shape.key_begin),
                       end = std::min(queries.end, c.shape.key_end);
    if (begin >= end) return {0, 0};
    return {(begin - c.shape.key_begin) / kKeyChunk, (end - 1 - c.shape.key_begin) / kKeyChunk + 1};
}

/// The first of these queries whose first key is beyond `key`; queries.end if there is none.
std::int64_t first_beyond(std::span<const std::int32_t> first_key, std::int64_t key, Range queries) {
    return std::upper_bound(first_key.begin() + queries.begin, first_key.begin() + queries.end, key) -
           first_key.begin();
}

/// The numbers of the blocks with queries that see keys of this chunk.
Range blocks_seeing(const Call& c, std::span<const std::int32_t> first_key, Range keys) {
    Range queries{std::max(keys.begin, c.shape.query_begin), c.shape.query_end};
    if (queries.begin >= queries.end) return {0, 0};
    queries.end = first_beyond(first_key, keys.end - 1, queries);
    if (queries.begin >= queries.end) return {0, 0};
    return {(queries.begin - c.shape.query_begin) / kQueryBlock,
            (queries.end - 1 - c.shape.query_begin) / kQueryBlock + 1};
}

void load_keys(const Call& c, const KeyBuffers& b, std::int64_t kv_head, Range keys) {
    const std::int64_t n = keys.end - keys.begin, padded = round_up(n, c.tiles.panel), w = c.shape.width,
                       column = kv_head * c.shape.head_dim;
    // d_v holds V for now, since it is free until the sums start.
    load_rows(b.d_v, c.shape, padded, c.inputs.v, keys.begin - c.shape.key_begin, n, column);
    load_rows(b.k, c.shape, padded, c.inputs.k, keys.begin - c.shape.key_begin, n, column);
    for (std::int64_t r = 0; r < padded; r += c.tiles.panel) {
        transpose(b.k_t + r * w, c.tiles.panel, b.k + r * w, w, c.tiles.panel, w);
        transpose(b.v_t + r * w, c.tiles.panel, b.d_v + r * w, w, c.tiles.panel, w);
    }
    std::fill_n(b.d_k, padded * w, 0.0f);
    std::fill_n(b.d_v, padded * w, 0.0f);
    for (std::int64_t r = 0; r < padded; ++r)
        b.key[r] = r < n ? static_cast<std::int32_t>(keys.begin + r) : std::numeric_limits<std::int32_t>::max();
}

/// The rows of q and d_out of one block of queries and one head, in place or copied.
struct QueryRows {
    RowBlock q, d_out;
};

QueryRows load_queries(const Call& c, const QueryBuffers& b, std::int64_t head, Range queries) {
    const std::int64_t n = queries.end - queries.begin, row = queries.begin - c.shape.query_begin,
                       padded = round_up(n, 8);
    const float *lse = c.inputs.lse.data<float>() + head * c.inputs.lse.row_stride + row,
                *delta = c.delta.data<float>() + head * c.delta.row_stride + row;
    for (std::int64_t r = 0; r < n; ++r) b.lse[r] = lse[r] == -kInfinity ? kInfinity : lse[r] * kLog2e;
    std::copy_n(delta, n, b.delta);
    return {block_of_rows(b.q, c.shape, padded, c.tiles.lanes, c.inputs.q, row, n, head * c.shape.head_dim),
            block_of_rows(b.d_out, c.shape, padded, c.tiles.lanes, c.inputs.d_out, row, n, head * c.shape.head_dim)};
}

/// Computes all panels of the loaded keys against the loaded queries.
void run_tiles(const Call& c, const Buffers& b, const QueryRows& rows, std::int64_t head, Range keys, Range queries,
               bool key_gradients, bool query_gradients) {
    const auto first_key = c.first_key(head);
    const std::int64_t w = c.shape.width, panel = c.tiles.panel;
    BackwardTile t{};
    t.q = rows.q.p, t.q_stride = rows.q.stride, t.d_out = rows.d_out.p, t.d_out_stride = rows.d_out.stride;
    t.lse = b.queries.lse, t.delta = b.queries.delta, t.p = b.queries.p, t.ds = b.queries.ds;
    t.d_q = query_gradients ? b.queries.d_q : nullptr;
    t.first_key = first_key.data() + queries.begin, t.token_begin = static_cast<std::int32_t>(queries.begin);
    t.head_dim = c.shape.head_dim, t.width = w, t.score_scale = c.scale * kLog2e, t.scale = c.scale;
    for (std::int64_t begin = keys.begin; begin < keys.end; begin += panel) {
        const std::int64_t last = std::min(begin + panel, keys.end) - 1, at = begin - keys.begin;
        t.lo = std::max(begin - queries.begin, std::int64_t{0});
        t.hi = first_beyond(first_key, last, queries) - queries.begin;
        if (t.lo >= t.hi) continue;
        const bool whole = last + 1 == begin + panel;  // padding lanes must be hidden
        t.full_lo = std::max(last - queries.begin, t.lo);
        t.full_hi = whole ? std::min(first_beyond(first_key, begin, queries) - queries.begin, t.hi) : t.full_lo;
        t.k_t = b.keys.k_t + at * w, t.v_t = b.keys.v_t + at * w, t.k = b.keys.k + at * w, t.key = b.keys.key + at;
        t.d_k = key_gradients ? b.keys.d_k + at * w : nullptr;
        t.d_v = key_gradients ? b.keys.d_v + at * w : nullptr;
        c.tiles.backward(t);
    }
}

using Turns = std::vector<std::atomic<std::int32_t>>;

/// Runs the task that the comment of this file describes. turns is null if the second pass computes dQ.
void run_chunk(const Call& c, const Buffers& b, std::int64_t kv_head, std::int64_t chunk, Turns* turns,
               const std::function<void()>* progress) {
    const Range keys = chunk_of(c, chunk);
    load_keys(c, b.keys, kv_head, keys);
    for (std::int64_t head = kv_head * c.shape.group; head < (kv_head + 1) * c.shape.group; ++head) {
        const Range blocks = blocks_seeing(c, c.first_key(head), keys);
        for (std::int64_t i = blocks.begin; i < blocks.end; ++i) {
            const Range queries = block_of(c, i);
            const std::int64_t n = queries.end - queries.begin;
            const QueryRows rows = load_queries(c, b.queries, head, queries);
            if (turns) std::fill_n(b.queries.d_q, round_up(n, 8) * c.shape.width, 0.0f);
            run_tiles(c, b, rows, head, keys, queries, true, turns != nullptr);
            if (turns) {
                auto& turn = (*turns)[head * c.num_blocks() + i];
                const auto mine = static_cast<std::int32_t>(chunk - chunks_seen(c, c.first_key(head), queries).begin);
                for (int spins = 0; turn.load(std::memory_order_acquire) != mine; ++spins)
                    spins % 64 ? _mm_pause() : std::this_thread::yield();
                add_rows(c.gradients.d_q, queries.begin - c.shape.query_begin, n, head * c.shape.head_dim,
                         b.queries.d_q, c.shape);
                turn.store(mine + 1, std::memory_order_release);
            }
            if (progress) (*progress)();
        }
    }
    add_rows(c.gradients.d_k, keys.begin - c.shape.key_begin, keys.end - keys.begin, kv_head * c.shape.head_dim,
             b.keys.d_k, c.shape);
    add_rows(c.gradients.d_v, keys.begin - c.shape.key_begin, keys.end - keys.begin, kv_head * c.shape.head_dim,
             b.keys.d_v, c.shape);
}

/// Second pass: computes only dQ, of one block of queries of one head.
void run_block(const Call& c, const Buffers& b, std::int64_t head, std::int64_t block,
               const std::function<void()>* progress) {
    const Range queries = block_of(c, block), chunks = chunks_seen(c, c.first_key(head), queries);
    const std::int64_t n = queries.end - queries.begin;
    const QueryRows rows = load_queries(c, b.queries, head, queries);
    std::fill_n(b.queries.d_q, round_up(n, 8) * c.shape.width, 0.0f);
    for (std::int64_t i = chunks.begin; i < chunks.end; ++i) {
        load_keys(c, b.keys, head / c.shape.group, chunk_of(c, i));
        run_tiles(c, b, rows, head, chunk_of(c, i), queries, false, true);
        if (progress) (*progress)();
    }
    add_rows(c.gradients.d_q, queries.begin - c.shape.query_begin, n, head * c.shape.head_dim, b.queries.d_q, c.shape);
}

/// The rows that sum_products computes at a time, to hide the latency of its chains of additions.
constexpr std::int64_t kDeltaRows = 4;

/// delta[h, t] = sum_e d_out * out for rows [begin, end), at most kDeltaRows of them. The sum is computed like that
/// of dP = d_out * v, with fused multiply-adds in the order of e. So a query that sees only one key, whose out is v,
/// gets a gradient of exactly 0.
template <class RealOut, class RealGradient> void sum_products(const Call& c, std::int64_t begin, std::int64_t end) {
    const std::int64_t e = c.shape.head_dim, row_out = c.inputs.out.row_stride,
                       row_gradient = c.inputs.d_out.row_stride;
    for (std::int64_t head = 0; head < c.shape.num_heads; ++head) {
        const RealGradient* g = c.inputs.d_out.data<RealGradient>() + begin * row_gradient + head * e;
        const RealOut* o = c.inputs.out.data<RealOut>() + begin * row_out + head * e;
        float sums[kDeltaRows] = {};
        if (end - begin == kDeltaRows) {
            for (std::int64_t i = 0; i < e; ++i) {
                for (std::int64_t r = 0; r < kDeltaRows; ++r)
                    sums[r] = std::fma(static_cast<float>(g[r * row_gradient + i]),
                                       static_cast<float>(o[r * row_out + i]), sums[r]);
            }
        } else {
            for (std::int64_t r = 0; r < end - begin; ++r) {
                for (std::int64_t i = 0; i < e; ++i)
                    sums[r] = std::fma(static_cast<float>(g[r * row_gradient + i]),
                                       static_cast<float>(o[r * row_out + i]), sums[r]);
            }
        }
        std::copy_n(sums, end - begin, c.delta.data<float>() + head * c.delta.row_stride + begin);
    }
}

void compute_delta(const Call& c, std::int64_t begin) {
    const bool wide_out = c.inputs.out.dtype == DType::float32, wide_gradient = c.inputs.d_out.dtype == DType::float32;
    const std::int64_t end = std::min(begin + kDeltaRows, c.shape.num_queries());
    if (wide_out && wide_gradient) sum_products<float, float>(c, begin, end);
    else if (wide_out) sum_products<float, bf16>(c, begin, end);
    else if (wide_gradient) sum_products<bf16, float>(c, begin, end);
    else sum_products<bf16, bf16>(c, begin, end);
}

}  // namespace

void attention_backward(const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                        const Windows& windows, const AttentionPlace& place, Tensor delta, InstructionSet isa,
                        const std::function<void()>& progress) {
    const AttentionTiles tiles = attention_tiles(isa);
    const Call c{gradients, inputs,     delta, windows, attention_shape(inputs.q, inputs.k, place, tiles.lanes),
                 tiles,     place.scale};
    const std::int64_t blocks = c.num_blocks(), chunks = c.num_chunks(), heads = c.shape.num_heads,
                       tasks = c.shape.num_kv_heads * chunks;
    const bool one_pass = gradients.d_q.dtype == DType::float32;
    Turns turns(one_pass ? heads * blocks : 0);
    std::atomic<std::int64_t> next_task{0};
#pragma omp parallel
    {
        const Buffers buffers(c);
        const auto* call_progress = omp_get_thread_num() == 0 && progress ? &progress : nullptr;
#pragma omp for schedule(static)
        for (std::int64_t t = 0; t < c.shape.num_queries(); t += kDeltaRows) compute_delta(c, t);
        for (std::int64_t i = next_task++; i < tasks; i = next_task++)
            run_chunk(c, buffers, i / chunks, i % chunks, one_pass ? &turns : nullptr, call_progress);
        if (!one_pass) {
#pragma omp for schedule(dynamic, 1)
            for (std::int64_t i = 0; i < heads * blocks; ++i)
                run_block(c, buffers, i % heads, blocks - 1 - i / heads, call_progress);
        }
    }
}

}  // namespace longlora::cpu
