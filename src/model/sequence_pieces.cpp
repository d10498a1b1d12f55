// Packs and exchanges pieces. Which end of a transfer sends follows from two facts: whether the owner of the keys
// computes, and the direction.
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
/// For keys and values, only gradients return.
bool travels(const KvTransfer& transfer, Pass pass, Way way) {
    return transfer.at_owner() || way == Way::there || pass == Pass::backward;
}

/// Calls each(tensor) for the tensors that the piece has in memory.
template <class Each> void for_tensors(const Piece& piece, Each&& each) {
    each(*piece.rows);
    if (piece.lse) each(*piece.lse);
}

constexpr Pass pass_of(const AttentionInputs&) { return Pass::forward; }
constexpr Pass pass_of(const AttentionBackwardInputs&) { return Pass::backward; }

void pack_queries(const SharedAttention& shared, const KvTransfer& transfer, const Piece& piece,
                  const AttentionInputs& inputs) {
    shared.ops().copy(piece[0], own_queries(shared, transfer, inputs.q));
}
void pack_queries(const SharedAttention& shared, const KvTransfer& transfer, const Piece& piece,
                  const AttentionBackwardInputs& inputs) {
    shared.ops().copy(piece[0], own_queries(shared, transfer, inputs.q));
    shared.ops().copy(piece[1], own_queries(shared, transfer, inputs.d_out));
    shared.ops().copy(piece[2], own_queries(shared, transfer, inputs.out));
    shared.ops().copy(piece.lse, own_sums(shared, transfer, inputs.lse));
}

/// What this rank sends on the way `there`.
template <class Inputs> Piece pack(const SharedAttention& shared, const KvTransfer& transfer, const Inputs& inputs) {
    Piece piece = make_piece(shared, transfer, pass_of(inputs), Way::there);
    if (transfer.at_owner()) {
        pack_queries(shared, transfer, piece, inputs);
    } else {
        shared.ops().copy(piece[0], own_keys(shared, transfer, inputs.k));
        shared.ops().copy(piece[1], own_keys(shared, transfer, inputs.v));
    }
    return piece;
}

template <class Inputs>
PiecesUnderWay begin_round_with(const SharedAttention& shared, std::size_t round, const Inputs& inputs) {
    if (round >= shared.rounds.size()) return {};
    const std::vector<KvTransfer>& transfers = shared.rounds[round];
    std::vector<Piece> sent(transfers.size());
    for (std::size_t i = 0; i < sent.size(); ++i)
        if (sender(transfers[i], Way::there) == shared.rank()) sent[i] = pack(shared, transfers[i], inputs);
    return begin_exchange(shared, transfers, std::move(sent), pass_of(inputs), Way::there);
}

}  // namespace

SharedAttention shared_attention_of(const StepContext& context, std::int64_t s, std::int64_t layer) {
    const ModelConfig& config = context.config;
    const auto& [device_windows, rounds, alike_before] = context.of_sequence(s, layer);
    const Windows& windows = *device_windows;
    SharedAttention shared{context,      windows, config.head_dim, config.num_heads / config.num_kv_heads, rounds,
                           alike_before, {}};
    for (const parallel::KvHeadClass& next :
         parallel::kv_head_classes(windows, config.num_heads, config.num_kv_heads)) {
        const std::int64_t num_rows =
            parallel::num_queries_that_see(windows, next, context.own_tokens, context.own_tokens.begin);
        if (shared.waiting.empty() || shared.waiting.back().num_rows != num_rows) {
            shared.waiting.push_back({next, num_rows});
            continue;
        }
        parallel::KvHeadClass& wider = shared.waiting.back().head_class;
        wider = {{wider.heads.begin, wider.heads.count + next.heads.count},
                 wider.plain || next.plain,
                 wider.shifted || next.shifted};
    }
    return shared;
}

AttentionPlace place_of(const StepContext& context, std::int64_t query_begin, std::int64_t key_begin) {
    const std::int64_t head_dim = context.config.head_dim;
    return {head_dim, query_begin, key_begin, static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)))};
}

Windows windows_of(const SharedAttention& shared, Shard heads) {
    Windows w = shared.windows;
    w.num_plain_heads =
        std::clamp<std::int64_t>(w.num_plain_heads - heads.begin * shared.group, 0, heads.count * shared.group);
    return w;
}

Piece make_piece(const SharedAttention& shared, const KvTransfer& transfer, Pass pass, Way way) {
    const StepContext& context = shared.context;
    const bool there = way == Way::there, of_queries = transfer.at_owner(), forward = pass == Pass::forward;
    const std::int64_t heads = transfer.heads.count * (of_queries ? shared.group : 1),
                       rows = of_queries ? transfer.queries.count : transfer.tokens.count;
    Piece piece;
    piece.num_tensors = !of_queries ? 2 : there && !forward ? 3 : 1;
    piece.rows = context.device.memory().tensor(there ? context.real : DType::float32,
                                                {piece.num_tensors * rows, heads * shared.head_dim}, Use::exchange);
    if (of_queries && there != forward) piece.lse = context.statistics({heads, rows}, Use::exchange);
    return piece;
}

PiecesUnderWay begin_exchange(const SharedAttention& shared, std::span<const KvTransfer> transfers,
                              std::vector<Piece> sent, Pass pass, Way way) {
    PiecesUnderWay pieces{transfers, std::move(sent), std::vector<Piece>(transfers.size()), {}};
    std::vector<parallel::Send> sends;
    std::vector<parallel::Receive> receives;
    for (std::size_t i = 0; i < transfers.size(); ++i) {
        if (!travels(transfers[i], pass, way)) continue;
        const int from = sender(transfers[i], way), to = receiver(transfers[i], way);
        if (from == shared.rank()) for_tensors(pieces.sent[i], [&](Tensor x) { sends.push_back({to, x}); });
        if (to != shared.rank()) continue;
        pieces.received[i] = make_piece(shared, transfers[i], pass, way);
        for_tensors(pieces.received[i], [&](Tensor x) { receives.push_back({from, x}); });
    }
    pieces.request = shared.context.sequence->exchange(sends, receives, Device::compute_stream());
    return pieces;
}

PiecesUnderWay begin_round(const SharedAttention& shared, std::size_t round, const AttentionInputs& inputs) {
    return begin_round_with(shared, round, inputs);
}
PiecesUnderWay begin_round(const SharedAttention& shared, std::size_t round, const AttentionBackwardInputs& inputs) {
    return begin_round_with(shared, round, inputs);
}

}  // namespace longlora::sequence_pieces
