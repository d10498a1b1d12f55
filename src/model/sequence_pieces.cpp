// Which end of a transfer sends what follows from two bits: whether it is computed at the keys' owner, and the way.
#include "model/sequence_pieces.h"

#include <cmath>

namespace longlora::sequence_pieces {
namespace {

int sender(const KvTransfer& transfer, Way way) {
    return (way == Way::there) != transfer.at_owner() ? transfer.from : transfer.to;
}
int receiver(const KvTransfer& transfer, Way way) {
    return sender(transfer, way == Way::there ? Way::back : Way::there);
}
/// Of keys and values nothing comes back but gradients.
bool travels(const KvTransfer& transfer, Pass pass, Way way) {
    return transfer.at_owner() || way == Way::there || pass == Pass::backward;
}

/// The piece's tensors.
template <class Each> void for_tensors(const Piece& piece, Each&& each) {
    each(*piece.rows);
    if (piece.lse) each(*piece.lse);
}

/// This rank's part of what goes there.
Piece pack(const Call& c, const KvTransfer& transfer, const Inputs& x, Pass pass) {
    Piece piece = make_piece(c, transfer, pass, Way::there);
    if (!transfer.at_owner()) {
        c.ops().copy(piece[0], own_keys(c, transfer, x.k));
        c.ops().copy(piece[1], own_keys(c, transfer, x.v));
        return piece;
    }
    c.ops().copy(piece[0], own_queries(c, transfer, x.q));
    if (pass == Pass::forward) return piece;
    c.ops().copy(piece[1], own_queries(c, transfer, x.d_out));
    c.ops().copy(piece[2], own_queries(c, transfer, x.out));
    c.ops().copy(piece.lse, own_sums(c, transfer, x.lse));
    return piece;
}

}  // namespace

Call make_call(const StepContext& context, std::int64_t s, std::int64_t layer) {
    const ModelConfig& config = context.config;
    const Windows& windows = context.windows(s, layer);
    Call c{context, windows, config.head_dim, config.num_heads / config.num_kv_heads, {}, {}};
    c.rounds = parallel::kv_transfers(windows, context.windows_without_documents(layer), context.sequence->size(),
                                      config.num_heads, config.num_kv_heads);
    for (const parallel::KvHeadClass& heads :
         parallel::kv_head_classes(windows, config.num_heads, config.num_kv_heads)) {
        const std::int64_t rows = parallel::num_seeing(windows, heads, context.own_tokens, context.own_tokens.begin);
        if (c.parts.empty() || c.parts.back().num_rows != rows) {
            c.parts.push_back({heads, rows});
            continue;
        }
        parallel::KvHeadClass& wider = c.parts.back().heads;
        wider = {{wider.heads.begin, wider.heads.count + heads.heads.count},
                 wider.plain || heads.plain,
                 wider.shifted || heads.shifted};
    }
    return c;
}

AttentionPlace place_of(const StepContext& context, std::int64_t query_begin, std::int64_t key_begin) {
    const std::int64_t head_dim = context.config.head_dim;
    return {head_dim, query_begin, key_begin, static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)))};
}

Windows windows_of(const Call& c, Shard heads) {
    Windows w = c.windows;
    w.num_plain_heads = std::clamp<std::int64_t>(w.num_plain_heads - heads.begin * c.group, 0, heads.count * c.group);
    return w;
}

Tensor queries(const Call& c, Tensor x, Shard heads, Shard rows) {
    return x.rows(rows.begin, rows.count)
        .columns(heads.begin * c.group * c.head_dim, heads.count * c.group * c.head_dim);
}
Tensor keys(const Call& c, Tensor x, Shard heads, Shard rows) {
    return x.rows(rows.begin, rows.count).columns(heads.begin * c.head_dim, heads.count * c.head_dim);
}
Tensor sums(const Call& c, Tensor lse, Shard heads, Shard rows) {
    return lse.rows(heads.begin * c.group, heads.count * c.group).columns(rows.begin, rows.count);
}
Tensor own_keys(const Call& c, const KvTransfer& transfer, Tensor x) {
    return keys(c, x, transfer.heads, {transfer.tokens.begin - c.own_tokens().begin, transfer.tokens.count});
}
Tensor own_queries(const Call& c, const KvTransfer& transfer, Tensor x) {
    return queries(c, x, transfer.heads, {transfer.queries.begin - c.own_tokens().begin, transfer.queries.count});
}
Tensor own_sums(const Call& c, const KvTransfer& transfer, Tensor lse) {
    return sums(c, lse, transfer.heads, {transfer.queries.begin - c.own_tokens().begin, transfer.queries.count});
}

Piece make_piece(const Call& c, const KvTransfer& transfer, Pass pass, Way way) {
    const bool there = way == Way::there, of_queries = transfer.at_owner(), forward = pass == Pass::forward;
    const std::int64_t heads = transfer.heads.count * (of_queries ? c.group : 1),
                       rows = of_queries ? transfer.queries.count : transfer.tokens.count;
    Piece piece;
    piece.num_things = !of_queries ? 2 : there && !forward ? 3 : 1;
    piece.rows = c.context.device.memory().tensor(there ? c.context.real : DType::float32,
                                                  {piece.num_things * rows, heads * c.head_dim}, Use::exchange);
    if (of_queries && there != forward) piece.lse = c.context.statistics({heads, rows}, Use::exchange);
    return piece;
}

bool receives(const Call& c, const KvTransfer& transfer, Way way) { return receiver(transfer, way) == c.rank(); }

Round start_round(const Call& c, const std::vector<KvTransfer>& transfers, std::vector<Piece> sent, Pass pass,
                  Way way) {
    Round round{std::move(sent), std::vector<Piece>(transfers.size()), {}};
    std::vector<parallel::Send> out;
    std::vector<parallel::Receive> in;
    for (std::size_t i = 0; i < transfers.size(); ++i) {
        if (!travels(transfers[i], pass, way)) continue;
        const int from = sender(transfers[i], way), to = receiver(transfers[i], way);
        if (from == c.rank()) for_tensors(round.sent[i], [&](Tensor x) { out.push_back({to, x}); });
        if (to != c.rank()) continue;
        round.received[i] = make_piece(c, transfers[i], pass, way);
        for_tensors(round.received[i], [&](Tensor x) { in.push_back({from, x}); });
    }
    round.request = c.context.sequence->exchange(out, in, Device::compute_stream());
    return round;
}

Round start_there(const Call& c, std::size_t j, const Inputs& x, Pass pass) {
    if (j >= c.rounds.size()) return {};
    std::vector<Piece> sent(c.rounds[j].size());
    for (std::size_t i = 0; i < sent.size(); ++i)
        if (sender(c.rounds[j][i], Way::there) == c.rank()) sent[i] = pack(c, c.rounds[j][i], x, pass);
    return start_round(c, c.rounds[j], std::move(sent), pass, Way::there);
}

}  // namespace longlora::sequence_pieces
