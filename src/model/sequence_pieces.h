// Pieces: the messages of attention over several ranks. What ranks that share a sequence send each other, and where
// the tokens and heads of a transfer are in a rank's own tensors. sequence_attention.cpp computes with them. Shapes:
// n tokens of this rank, H query heads, K key/value heads, E head_dim, g = H / K.
#pragma once

#include <span>
#include <vector>

#include "model/step_context.h"
#include "parallel/kv_exchange.h"

namespace longlora::sequence_pieces {

using parallel::KvTransfer, parallel::Shard;

/// In the query heads of these K/V heads, the first num_rows rows of this rank see keys of other ranks and wait for
/// these keys.
struct WaitingRows {
    parallel::KvHeadClass head_class;
    std::int64_t num_rows = 0;
    Shard heads() const { return head_class.heads; }
};

/// The attention of one sequence from the point of view of this rank.
struct SharedAttention {
    const StepContext& context;
    const Windows& windows;
    std::int64_t head_dim, group;      ///< E; g = H / K
    const parallel::KvRounds& rounds;  ///< of this rank
    const std::vector<std::int64_t>& alike_before;
    std::vector<WaitingRows> waiting;  ///< covers all K/V heads, in order

    int rank() const { return context.sequence->rank(); }
    Shard own_tokens() const { return context.own_tokens; }
    Ops ops() const { return context.ops(); }
};
SharedAttention shared_attention_of(const StepContext& context, std::int64_t s, std::int64_t layer);

/// The place of queries from token `query_begin` on and keys from token `key_begin` on.
AttentionPlace place_of(const StepContext& context, std::int64_t query_begin, std::int64_t key_begin);
/// The windows for the query heads of these K/V heads.
Windows windows_of(const SharedAttention& shared, Shard heads);
inline Shard common(Shard a, Shard b) {
    const std::int64_t begin = std::max(a.begin, b.begin);
    return {begin, std::max<std::int64_t>(0, std::min(a.end(), b.end()) - begin)};
}

// Views of some rows and heads: queries() of x (rows, H*E), keys() of x (rows, K*E), sums() of lse (H, rows). `heads`
// are K/V heads; queries() and sums() take the g query heads of each.
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

/// Global tokens of this rank as rows of its tensors.
inline Shard own_rows(const SharedAttention& shared, Shard tokens) {
    return {tokens.begin - shared.own_tokens().begin, tokens.count};
}
/// The transfer's keys or values in this rank's tensor x (n, K*E).
template <class Byte>
TensorView<Byte> own_keys(const SharedAttention& shared, const KvTransfer& transfer, TensorView<Byte> x) {
    return keys(shared, x, transfer.heads, own_rows(shared, transfer.tokens));
}
/// The transfer's queries in this rank's tensor x (n, H*E), and by own_sums() in its lse (H, n).
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
/// the results of that rank return.
enum class Way { there, back };

/// What one transfer carries in one direction: several tensors with the same number of rows, one below the other, as
/// wide as the heads of the transfer. lse is (heads * g, queries).
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
/// A piece of keys and values that arrived earlier.
inline Piece piece_of_keys(ArenaTensor rows) { return {std::move(rows), {}, 2}; }

/// The pieces of a round that are under way, one per transfer. A piece is empty if its transfer goes the other way.
struct PiecesUnderWay {
    std::span<const KvTransfer> transfers;
    std::vector<Piece> sent, received;
    parallel::Request request;
    void finish() {
        request.finish();
        sent.clear();
    }
};
/// Sends `sent` and allocates the pieces that arrive.
PiecesUnderWay begin_exchange(const SharedAttention& shared, std::span<const KvTransfer> transfers,
                              std::vector<Piece> sent, Pass pass, Way way);
/// Copies what other ranks need from this one in a round, and sends it. Does nothing after the last round.
PiecesUnderWay begin_round(const SharedAttention& shared, std::size_t round, const AttentionInputs& inputs);
PiecesUnderWay begin_round(const SharedAttention& shared, std::size_t round, const AttentionBackwardInputs& inputs);

}  // namespace longlora::sequence_pieces
