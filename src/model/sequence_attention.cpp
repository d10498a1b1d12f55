// Attention over several ranks works round by round (parallel/kv_exchange.h). While this rank computes with the
// pieces of one round, the pieces of the next round arrive, and the results of the previous round travel back. No
// more pieces than these are in memory, unless keys and values stay as a halo. The order of rounds and transfers is
// fixed, and so is the order of all sums. sequence_pieces.h has the pieces.
#include "model/sequence_attention.h"

#include "model/sequence_pieces.h"
#include "parallel/plan_repetition.h"

namespace longlora {
namespace {

using namespace sequence_pieces;

std::size_t num_transfers(const SharedAttention& shared) {
    std::size_t n = 0;
    for (const auto& transfers : shared.rounds) n += transfers.size();
    return n;
}

/// Leaves out rounds that repeat the one before, in a plan. Round i is done while the results of round i - 1 travel
/// back and the pieces of round i + 1 arrive, so it repeats another if all three are alike.
class RepeatedRounds {
public:
    explicit RepeatedRounds(const SharedAttention& shared)
        : shared_(shared),
          repetition_(shared.context.device, {shared.context.sequence}) {}

    /// How many rounds after `round`, which is done, the loop leaves out.
    std::int64_t skip(std::size_t round) {
        const std::vector<std::int64_t>& alike = shared_.alike_before;
        if (alike.empty() || alike[round] == 0) return 0;
        std::size_t end = round + 1;  // of the rounds that are alike
        while (end < alike.size() && alike[end] > 0) ++end;
        return repetition_.skip(alike[round] - 1, static_cast<std::int64_t>(end - round) - 2);
    }

private:
    const SharedAttention& shared_;
    parallel::PlanRepetition repetition_;
};

/// The pieces that other ranks send to this one, round by round. If forward has kept them as a halo, they come from
/// there and nothing is exchanged. Otherwise the pieces of the next round are always under way.
template <class Inputs> class Arrivals {
public:
    Arrivals(const SharedAttention& shared, const Inputs& inputs, Halo& halo)
        : shared_(shared),
          inputs_(inputs),
          halo_(halo),
          have_halo_(!halo.empty()) {
        ensure(!have_halo_ || halo.pieces.size() == num_transfers(shared), "a kept halo belongs to the same windows");
        if (!have_halo_) arriving_ = begin_round(shared_, 0, inputs_);
    }

    /// The pieces of the next round, by transfer.
    std::vector<Piece> take_round() {
        ++num_rounds_;
        std::vector<Piece> arrived;
        if (have_halo_) {
            for (std::size_t i = 0; i < shared_.rounds[num_rounds_ - 1].size(); ++i)
                arrived.push_back(piece_of_keys(std::move(halo_.pieces[num_taken_ + i])));
        } else {
            arriving_.finish();
            arrived = std::move(arriving_.received);
            arriving_ = begin_round(shared_, num_rounds_, inputs_);
        }
        num_taken_ += arrived.size();
        return arrived;
    }
    /// Leaves out rounds after the one that was taken last; all of them, and one more, are like that one.
    void leave_out(std::int64_t rounds) {
        num_taken_ += rounds * shared_.rounds[num_rounds_ - 1].size();
        num_rounds_ += rounds;
    }
    /// Stores the pieces of the round that was taken last in the halo; all of them must be keys and values.
    void store_in_halo(std::vector<Piece> arrived) {
        halo_.kept = true;
        halo_.pieces.resize(num_transfers(shared_));
        std::size_t transfer = num_taken_ - arrived.size();
        for (Piece& piece : arrived) halo_.pieces[transfer++] = std::move(piece.rows);
    }

private:
    const SharedAttention& shared_;
    const Inputs& inputs_;
    Halo& halo_;
    const bool have_halo_;
    PiecesUnderWay arriving_;
    std::size_t num_rounds_ = 0, num_taken_ = 0;  // rounds and transfers taken so far
};

/// What forward writes. Rows that wait for keys of other ranks are merged in float32: in `out` if it is float32,
/// otherwise in `partials`.
struct ForwardResult {
    Tensor out, lse;
    std::vector<ArenaTensor> partials;  ///< one per entry of `waiting`: (num_rows, columns of its heads), or empty

    /// These rows and heads of the output while they wait for more keys; the heads belong to entry `index` of
    /// `waiting`.
    Tensor waiting(const SharedAttention& shared, std::size_t index, Shard heads, Shard rows) const {
        if (!partials[index]) return queries(shared, out, heads, rows);
        const std::int64_t first_head = shared.waiting[index].heads().begin;
        return queries(shared, *partials[index], {heads.begin - first_head, heads.count}, rows);
    }
};

ForwardResult make_result(const SharedAttention& shared, const AttentionResult& result) {
    ForwardResult r{result.out, result.lse, std::vector<ArenaTensor>(shared.waiting.size())};
    if (r.out.dtype == DType::float32) return r;
    for (std::size_t i = 0; i < r.partials.size(); ++i)
        if (const WaitingRows& waiting = shared.waiting[i]; waiting.num_rows)
            r.partials[i] =
                shared.context.statistics({waiting.num_rows, waiting.heads().count * shared.group * shared.head_dim});
    return r;
}

/// Calls each(index, heads, rows) for the query rows of this rank that see keys of the transfer; index: entry of
/// `waiting`.
template <class Each> void for_readers(const SharedAttention& shared, const KvTransfer& transfer, Each&& each) {
    for (std::size_t i = 0; i < shared.waiting.size(); ++i) {
        const WaitingRows& waiting = shared.waiting[i];
        const Shard heads = common(waiting.heads(), transfer.heads),
                    rows{0, parallel::num_queries_that_see(shared.windows, waiting.head_class, shared.own_tokens(),
                                                           transfer.tokens.end())};
        if (heads.count > 0 && rows.count > 0) each(i, heads, rows);
    }
}

/// Attention over this rank's own keys.
void forward_own(const SharedAttention& shared, const ForwardResult& r, const AttentionInputs& x) {
    const Shard own = shared.own_tokens();
    const auto attend = [&](Tensor out, Shard heads, Shard rows) {
        if (rows.count == 0) return;
        shared.ops().attention_forward({.out = out, .lse = sums(shared, r.lse, heads, rows)},
                                       {.q = queries(shared, x.q, heads, rows),
                                        .k = keys(shared, x.k, heads, {0, rows.end()}),
                                        .v = keys(shared, x.v, heads, {0, rows.end()})},
                                       windows_of(shared, heads),
                                       place_of(shared.context, own.begin + rows.begin, own.begin), false);
    };
    if (std::none_of(r.partials.begin(), r.partials.end(),
                     [](const ArenaTensor& partial) { return static_cast<bool>(partial); }))
        return attend(r.out, {0, shared.context.config.num_kv_heads}, {0, own.count});
    for (std::size_t i = 0; i < shared.waiting.size(); ++i) {
        const std::int64_t num_rows = shared.waiting[i].num_rows;
        const Shard heads = shared.waiting[i].heads(), others{num_rows, own.count - num_rows};
        if (num_rows) attend(*r.partials[i], heads, {0, num_rows});
        attend(queries(shared, r.out, heads, others), heads, others);
    }
}

/// Merges the attention over keys and values that arrived into the rows and heads that see them.
void forward_keys(const SharedAttention& shared, const KvTransfer& transfer, const Piece& piece, const ForwardResult& r,
                  ConstTensor q) {
    const Shard all{0, transfer.tokens.count};
    for_readers(shared, transfer, [&](std::size_t index, Shard heads, Shard rows) {
        const Shard in_piece{heads.begin - transfer.heads.begin, heads.count};
        shared.ops().attention_forward(
            {.out = r.waiting(shared, index, heads, rows), .lse = sums(shared, r.lse, heads, rows)},
            {.q = queries(shared, q, heads, rows),
             .k = keys(shared, piece[0], in_piece, all),
             .v = keys(shared, piece[1], in_piece, all)},
            windows_of(shared, heads), place_of(shared.context, shared.own_tokens().begin, transfer.tokens.begin),
            true);
    });
}

/// The partial result of another rank's queries over this rank's keys.
Piece forward_queries(const SharedAttention& shared, const KvTransfer& transfer, const Piece& piece,
                      const AttentionInputs& x) {
    Piece result = make_piece(shared, transfer, Pass::forward, Way::back);
    shared.ops().attention_forward(
        {.out = result[0], .lse = result.lse},
        {.q = piece[0], .k = own_keys(shared, transfer, x.k), .v = own_keys(shared, transfer, x.v)},
        windows_of(shared, transfer.heads), place_of(shared.context, transfer.queries.begin, transfer.tokens.begin),
        false);
    return result;
}

/// Computes with the pieces of a round; returns what travels back.
std::vector<Piece> forward_round(const SharedAttention& shared, std::span<const KvTransfer> transfers,
                                 const std::vector<Piece>& arrived, const ForwardResult& r, const AttentionInputs& x) {
    std::vector<Piece> results(transfers.size());
    for (std::size_t i = 0; i < transfers.size(); ++i) {
        if (!arrived[i]) continue;
        if (transfers[i].at_owner()) results[i] = forward_queries(shared, transfers[i], arrived[i], x);
        else forward_keys(shared, transfers[i], arrived[i], r, x.q);
    }
    return results;
}

/// Waits for the partial results of this rank's queries that come back, and merges them.
void merge_returned(const SharedAttention& shared, PiecesUnderWay& returning, const ForwardResult& r) {
    returning.finish();
    for (std::size_t i = 0; i < returning.transfers.size(); ++i) {
        const KvTransfer& transfer = returning.transfers[i];
        const Piece& piece = returning.received[i];
        if (!piece) continue;
        for_readers(shared, transfer, [&](std::size_t index, Shard heads, Shard rows) {
            const Shard in_piece{heads.begin - transfer.heads.begin, heads.count};
            // `rows` counts for all heads of the entry; heads that this transfer lacks may see the keys from more
            // rows.
            rows.count = std::min(rows.count, transfer.queries.count);
            shared.ops().merge_attention(
                {.out = r.waiting(shared, index, heads, rows), .lse = sums(shared, r.lse, heads, rows)},
                {.out = queries(shared, piece[0], in_piece, rows), .lse = sums(shared, *piece.lse, in_piece, rows)});
        });
    }
    returning.received.clear();
}

/// Copies the rows that were merged in `partials` to out.
void store_partials(const SharedAttention& shared, const ForwardResult& r) {
    for (std::size_t i = 0; i < r.partials.size(); ++i) {
        const WaitingRows& waiting = shared.waiting[i];
        if (r.partials[i])
            shared.ops().copy(queries(shared, r.out, waiting.heads(), {0, waiting.num_rows}), r.partials[i]);
    }
}

/// Gradients of attention over this rank's own keys, for the queries of `rows`.
void backward_own(const SharedAttention& shared, const AttentionGradients& gradients, const AttentionBackwardInputs& x,
                  Shard rows) {
    if (rows.count == 0) return;
    const std::int64_t begin = shared.own_tokens().begin;
    const auto own = [&](auto of) { return of.rows(rows.begin, rows.count); };
    const auto seen = [&](auto of) { return of.rows(0, rows.end()); };
    shared.ops().attention_backward({.d_q = own(gradients.d_q), .d_k = seen(gradients.d_k), .d_v = seen(gradients.d_v)},
                                    {.q = own(x.q),
                                     .k = seen(x.k),
                                     .v = seen(x.v),
                                     .d_out = own(x.d_out),
                                     .out = own(x.out),
                                     .lse = x.lse.columns(rows.begin, rows.count)},
                                    shared.windows, place_of(shared.context, begin + rows.begin, begin));
}

/// Returns the gradient of keys and values that arrived; adds the gradient of this rank's queries.
Piece backward_keys(const SharedAttention& shared, const KvTransfer& transfer, const Piece& piece,
                    const AttentionGradients& gradients, const AttentionBackwardInputs& x) {
    const Shard all{0, transfer.tokens.count};
    Piece d_piece = make_piece(shared, transfer, Pass::backward, Way::back);
    shared.ops().fill(d_piece.rows, 0);
    for_readers(shared, transfer, [&](std::size_t, Shard heads, Shard rows) {
        const Shard in_piece{heads.begin - transfer.heads.begin, heads.count};
        const auto of_queries = [&](auto of) { return queries(shared, of, heads, rows); };
        const auto of_keys = [&](Tensor of) { return keys(shared, of, in_piece, all); };
        shared.ops().attention_backward(
            {.d_q = of_queries(gradients.d_q), .d_k = of_keys(d_piece[0]), .d_v = of_keys(d_piece[1])},
            {.q = of_queries(x.q),
             .k = of_keys(piece[0]),
             .v = of_keys(piece[1]),
             .d_out = of_queries(x.d_out),
             .out = of_queries(x.out),
             .lse = sums(shared, x.lse, heads, rows)},
            windows_of(shared, heads), place_of(shared.context, shared.own_tokens().begin, transfer.tokens.begin));
    });
    return d_piece;
}

/// Returns the gradient of another rank's queries; adds the gradient of this rank's keys and values.
Piece backward_queries(const SharedAttention& shared, const KvTransfer& transfer, const Piece& piece,
                       const AttentionGradients& gradients, const AttentionBackwardInputs& x) {
    Piece d_piece = make_piece(shared, transfer, Pass::backward, Way::back);
    shared.ops().fill(d_piece.rows, 0);
    shared.ops().attention_backward({.d_q = d_piece[0],
                                     .d_k = own_keys(shared, transfer, gradients.d_k),
                                     .d_v = own_keys(shared, transfer, gradients.d_v)},
                                    {.q = piece[0],
                                     .k = own_keys(shared, transfer, x.k),
                                     .v = own_keys(shared, transfer, x.v),
                                     .d_out = piece[1],
                                     .out = piece[2],
                                     .lse = piece.lse},
                                    windows_of(shared, transfer.heads),
                                    place_of(shared.context, transfer.queries.begin, transfer.tokens.begin));
    return d_piece;
}

/// Computes with the pieces of a round and releases each piece after its use; returns what travels back.
std::vector<Piece> backward_round(const SharedAttention& shared, std::span<const KvTransfer> transfers,
                                  std::vector<Piece> arrived, const AttentionGradients& gradients,
                                  const AttentionBackwardInputs& x) {
    std::vector<Piece> d_pieces(transfers.size());
    for (std::size_t i = 0; i < transfers.size(); ++i) {
        if (!arrived[i]) continue;
        const Piece piece = std::move(arrived[i]);
        d_pieces[i] = transfers[i].at_owner() ? backward_queries(shared, transfers[i], piece, gradients, x)
                                              : backward_keys(shared, transfers[i], piece, gradients, x);
    }
    return d_pieces;
}

/// Waits for the gradients that come back, of this rank's keys and values or of its queries, and adds them.
void add_returned(const SharedAttention& shared, PiecesUnderWay& returning, const AttentionGradients& gradients) {
    returning.finish();
    for (std::size_t i = 0; i < returning.transfers.size(); ++i) {
        const KvTransfer& transfer = returning.transfers[i];
        const Piece& piece = returning.received[i];
        if (!piece) continue;
        if (transfer.at_owner()) {
            shared.ops().add(own_queries(shared, transfer, gradients.d_q), piece[0]);
        } else {
            shared.ops().add(own_keys(shared, transfer, gradients.d_k), piece[0]);
            shared.ops().add(own_keys(shared, transfer, gradients.d_v), piece[1]);
        }
    }
    returning.received.clear();
}

bool alone(const StepContext& context) { return !context.sequence || context.sequence->size() == 1; }

}  // namespace

void sequence_attention_forward(const StepContext& context, std::int64_t s, std::int64_t layer,
                                const AttentionResult& result, const AttentionInputs& inputs, Halo& halo,
                                bool keep_halo) {
    if (alone(context))
        return context.ops().attention_forward(result, inputs, context.windows(s, layer),
                                               place_of(context, context.own_tokens.begin, context.own_tokens.begin),
                                               false);
    const SharedAttention shared = shared_attention_of(context, s, layer);
    const bool have_halo = !halo.empty(),
               store_halo = have_halo || (keep_halo && context.rules(layer).stays_until_backward);
    Arrivals arrivals(shared, inputs, halo);
    const ForwardResult r = make_result(shared, result);
    forward_own(shared, r, inputs);
    PiecesUnderWay returning;
    RepeatedRounds repeated(shared);
    for (std::size_t round = 0; round < shared.rounds.size(); ++round) {
        const std::vector<KvTransfer>& transfers = shared.rounds[round];
        std::vector<Piece> arrived = arrivals.take_round();
        std::vector<Piece> results = forward_round(shared, transfers, arrived, r, inputs);
        if (store_halo) arrivals.store_in_halo(std::move(arrived));
        arrived.clear();
        merge_returned(shared, returning, r);
        returning = begin_exchange(shared, transfers, std::move(results), Pass::forward, Way::back);
        const std::int64_t left_out = repeated.skip(round);
        arrivals.leave_out(left_out), round += left_out;
    }
    merge_returned(shared, returning, r);
    store_partials(shared, r);
}

void sequence_attention_backward(const StepContext& context, std::int64_t s, std::int64_t layer,
                                 const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                                 Halo& halo) {
    if (alone(context))
        return context.ops().attention_backward(gradients, inputs, context.windows(s, layer),
                                                place_of(context, context.own_tokens.begin, context.own_tokens.begin));
    const SharedAttention shared = shared_attention_of(context, s, layer);
    const bool have_halo = !halo.empty();
    Arrivals arrivals(shared, inputs, halo);
    // This rank computes half of its rows while the first pieces arrive (none if the halo has them), and the others
    // while the last gradients travel back.
    const std::int64_t n = shared.own_tokens().count, num_first = have_halo || shared.rounds.empty() ? 0 : n / 2;
    backward_own(shared, gradients, inputs, {0, num_first});
    PiecesUnderWay returning;
    RepeatedRounds repeated(shared);
    for (std::size_t round = 0; round < shared.rounds.size(); ++round) {
        const std::vector<KvTransfer>& transfers = shared.rounds[round];
        std::vector<Piece> d_pieces = backward_round(shared, transfers, arrivals.take_round(), gradients, inputs);
        add_returned(shared, returning, gradients);
        returning = begin_exchange(shared, transfers, std::move(d_pieces), Pass::backward, Way::back);
        const std::int64_t left_out = repeated.skip(round);
        arrivals.leave_out(left_out), round += left_out;
    }
    backward_own(shared, gradients, inputs, {num_first, n - num_first});
    add_returned(shared, returning, gradients);
    halo.clear();
}

}  // namespace longlora
