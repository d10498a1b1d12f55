// What ranks that share a sequence send each other for its attention, and how a transfer's tokens and heads are found
// in a rank's own tensors. Nothing is computed here; that is sequence_attention.cpp. Shapes: n tokens of this rank, H
// query heads, K key/value heads, E head_dim, g = H / K.
#pragma once

#include <span>
#include <vector>

#include "model/step_context.h"
#include "parallel/kv_exchange.h"

namespace longlora::sequence_pieces {

using parallel::KvTransfer, parallel::Shard;

/// In the query heads of some K/V heads, the first num_rows rows of this rank see keys of other ranks and wait for
/// them.
struct WaitingRows {
    parallel::KvHeadClass head_class;
    std::int64_t num_rows = 0;
    Shard heads() const { return head_class.heads; }
};

/// The attention of one sequence, as this rank takes part in it.
struct SharedAttention {
    const StepContext& context;
    const Windows& windows;
    std::int64_t head_dim, group;                 ///< E; H / K
    std::vector<std::vector<KvTransfer>> rounds;  ///< of all ranks (parallel/kv_exchange.h)
    std::vector<WaitingRows> waiting;             ///< all K/V heads, in order

    int rank() const { return context.sequence->rank(); }
    Shard own_tokens() const { return context.own_tokens; }
    Ops ops() const { return context.ops(); }
};
SharedAttention shared_attention_of(const StepContext& context, std::int64_t s, std::int64_t layer);

/// For queries from token `query_begin` on and keys from `key_begin` on.
AttentionPlace place_of(const StepContext& context, std::int64_t query_begin, std::int64_t key_begin);
/// For the query heads of these K/V heads.
Windows windows_of(const SharedAttention& shared, Shard heads);
inline Shard common(Shard a, Shard b) {
    const std::int64_t begin = std::max(a.begin, b.begin);
    return {begin, std::max<std::int64_t>(0, std::min(a.end(), b.end()) - begin)};
}

// Views of rows and heads: of x as (rows, H*E), as (rows, K*E), of lse as (H, rows). Heads are K/V heads.
template <class Byte>
TensorView<Byte> queries(const SharedAttention& shared, TensorView<Byte> x, Shard heads, Shard rows) {
    const std::int64_t width = shared.group * shared.head_dim;
    return x.rows(rows.begin, rows.count).columns(heads.begin * width, heads.count * width);
}
template <class Byte>
TensorView<Byte> keys(const SharedAttention& shared, TensorView<Byte> x, Shard heads, Shard rows) {
    return x.rows(rows.begin, rows.count).columns(heads.begin * shared.head_dim, heads.count * shared.head_dim);
}
template <class Byte>
TensorView<Byte> sums(const SharedAttention& shared, TensorView<Byte> lse, Shard heads, Shard rows) {
    return lse.rows(heads.begin * shared.group, heads.count * shared.group).columns(rows.begin, rows.count);
}

/// Global tokens of this rank as its own rows.
inline Shard own_rows(const SharedAttention& shared, Shard tokens) {
    return {tokens.begin - shared.own_tokens().begin, tokens.count};
}
/// The transfer's keys or values in this rank's own x (n, K*E).
template <class Byte>
TensorView<Byte> own_keys(const SharedAttention& shared, const KvTransfer& transfer, TensorView<Byte> x) {
    return keys(shared, x, transfer.heads, own_rows(shared, transfer.tokens));
}
/// The transfer's queries, in x (n, H*E) and in lse (H, n).
template <class Byte>
TensorView<Byte> own_queries(const SharedAttention& shared, const KvTransfer& transfer, TensorView<Byte> x) {
    return queries(shared, x, transfer.heads, own_rows(shared, transfer.queries));
}
template <class Byte>
TensorView<Byte> own_sums(const SharedAttention& shared, const KvTransfer& transfer, TensorView<Byte> lse) {
    return sums(shared, lse, transfer.heads, own_rows(shared, transfer.queries));
}

enum class Pass { forward, backward };
/// `there`: keys and values go to the rank that has the queries, or queries go to the rank that has the keys. `back`:
/// what that rank computed returns.
enum class Way { there, back };

/// What one transfer carries one way: several tensors of equally many rows, one below the other, as wide as the
/// transfer's heads. lse is (heads * g, queries).
///     what travels         there                    back
///     keys and values      k, v                     backward: d_k, d_v (float32)
///     queries, forward     q                        out (float32), lse
///     queries, backward    q, d_out, out, lse       d_q (float32)
struct Piece {
    ArenaTensor rows, lse;
    std::int64_t num_tensors = 0;

    explicit operator bool() const { return static_cast<bool>(rows); }
    Tensor operator[](std::int64_t i) const {
        const std::int64_t n = rows->shape[0] / num_tensors;
        return rows->rows(i * n, n);
    }
};
Piece make_piece(const SharedAttention& shared, const KvTransfer& transfer, Pass pass, Way way);
/// Keys and values that arrived earlier.
inline Piece piece_of_keys(ArenaTensor rows) { return {std::move(rows), {}, 2}; }

/// A round's pieces on their way, by transfer; empty where the transfer is between other ranks.
struct PiecesUnderWay {
    std::span<const KvTransfer> transfers;
    std::vector<Piece> sent, received;
    parallel::Request request;
    void finish() {
        request.finish();
        sent.clear();
    }
};
/// Sends `sent` and makes room for what arrives.
PiecesUnderWay begin_exchange(const SharedAttention& shared, std::span<const KvTransfer> transfers,
                              std::vector<Piece> sent, Pass pass, Way way);
/// Copies what other ranks need of this one in a round and sends it there; nothing beyond the last round.
PiecesUnderWay begin_round(const SharedAttention& shared, std::size_t round, const AttentionInputs& inputs);
PiecesUnderWay begin_round(const SharedAttention& shared, std::size_t round, const AttentionBackwardInputs& inputs);

}  // namespace longlora::sequence_pieces
