// What ranks that share a sequence send each other for its attention, and how a transfer's tokens and heads are found
// in a rank's own tensors. Nothing is computed here; that is sequence_attention.cpp. Shapes: n tokens of this rank, H
// query heads, K key/value heads, E head_dim, g = H / K.
#pragma once

#include <vector>

#include "model/step_context.h"
#include "parallel/kv_exchange.h"

namespace longlora::sequence_pieces {

using parallel::KvTransfer, parallel::Shard;

/// Query heads of some K/V heads, and how many of this rank's first rows see keys of other ranks there.
struct Part {
    parallel::KvHeadClass heads;
    std::int64_t num_rows = 0;
};

/// The attention of one sequence on this rank.
struct Call {
    const StepContext& context;
    const Windows& windows;
    std::int64_t head_dim, group;  ///< E; H / K
    std::vector<std::vector<KvTransfer>> rounds;
    std::vector<Part> parts;

    int rank() const { return context.sequence->rank(); }
    Shard own_tokens() const { return context.own_tokens; }
    Ops ops() const { return context.ops(); }
};
Call make_call(const StepContext& context, std::int64_t s, std::int64_t layer);

/// This rank's tensors. Forward: q (n, H*E), k, v (n, K*E); backward also d_out, out (n, H*E) and lse (H, n).
struct Inputs {
    Tensor q, k, v, d_out{}, out{}, lse{};
};

/// For queries from token `query_begin` on and keys from `key_begin` on.
AttentionPlace place_of(const StepContext& context, std::int64_t query_begin, std::int64_t key_begin);
/// For the query heads of these K/V heads.
Windows windows_of(const Call& c, Shard heads);
inline Shard common(Shard a, Shard b) {
    const std::int64_t begin = std::max(a.begin, b.begin);
    return {begin, std::max<std::int64_t>(0, std::min(a.end(), b.end()) - begin)};
}

// Views of rows and heads: of x as (rows, H*E), as (rows, K*E), of lse as (H, rows). Heads are K/V heads.
Tensor queries(const Call& c, Tensor x, Shard heads, Shard rows);
Tensor keys(const Call& c, Tensor x, Shard heads, Shard rows);
Tensor sums(const Call& c, Tensor lse, Shard heads, Shard rows);
/// The keys or values that the transfer is about in this rank's own x (n, K*E).
Tensor own_keys(const Call& c, const KvTransfer& transfer, Tensor x);
/// The same of its queries, in x (n, H*E) and in lse (H, n).
Tensor own_queries(const Call& c, const KvTransfer& transfer, Tensor x);
Tensor own_sums(const Call& c, const KvTransfer& transfer, Tensor lse);

enum class Pass { forward, backward };
/// `there`: keys and values to who has the queries, or queries to who has the keys. `back`: what was computed with
/// them.
enum class Way { there, back };

/// What one transfer carries one way: equally many rows of each of several things, one after the other, as wide as its
/// heads.
///     keys and values   there: k, v                                                        back: float32 d_k, d_v
///     (backward) queries           there: q; backward q, d_out, out and lse (heads * g, queries)      back: float32
///     out and lse; backward float32 d_q
struct Piece {
    ArenaTensor rows, lse;
    std::int64_t num_things = 0;
    Tensor operator[](std::int64_t thing) const {
        return rows->rows(thing * (rows->shape[0] / num_things), rows->shape[0] / num_things);
    }
};
Piece make_piece(const Call& c, const KvTransfer& transfer, Pass pass, Way way);
bool receives(const Call& c, const KvTransfer& transfer, Way way);

/// A round's pieces on their way, by transfer; empty where the transfer is between other ranks.
struct Round {
    std::vector<Piece> sent, received;
    parallel::Request request;
    void finish() {
        request.finish();
        sent.clear();
    }
};
/// Sends `sent` and makes room for what comes.
Round start_round(const Call& c, const std::vector<KvTransfer>& transfers, std::vector<Piece> sent, Pass pass, Way way);
/// Copies what round j needs of this rank and sends it; nothing beyond the last round.
Round start_there(const Call& c, std::size_t j, const Inputs& x, Pass pass);

}  // namespace longlora::sequence_pieces
