// Round by round (parallel/kv_exchange.h): while one round's pieces are computed with, the next ones are under way
// there, and the previous ones' results back; no more than these are in memory, unless keys and values stay. The order
// of rounds and transfers is fixed, and so are all sums.
#include "model/sequence_attention.h"

#include "model/sequence_pieces.h"

namespace longlora {
namespace {

using namespace sequence_pieces;

/// Where partial results of each part are merged while keys arrive: out itself if it is float32, else memory of their
/// own for the rows that wait for keys.
std::vector<ArenaTensor> make_partials(const Call& c, Tensor out) {
    std::vector<ArenaTensor> partials(c.parts.size());
    for (std::size_t p = 0; p < partials.size() && out.dtype != DType::float32; ++p)
        if (c.parts[p].num_rows)
            partials[p] =
                c.context.statistics({c.parts[p].num_rows, c.parts[p].heads.heads.count * c.group * c.head_dim});
    return partials;
}

/// What forward writes.
struct Results {
    Tensor out, lse;
    std::vector<ArenaTensor> partials;
    /// Rows of out while they wait for more keys; heads of part p.
    Tensor waiting(const Call& c, std::size_t p, Shard heads, Shard rows) const {
        return partials[p] ? queries(c, partials[p], {heads.begin - c.parts[p].heads.heads.begin, heads.count}, rows)
                           : queries(c, out, heads, rows);
    }
};

/// Calls each(part, heads, rows) for this rank's query rows that see keys of the transfer, part by part.
template <class Each> void for_readers(const Call& c, const KvTransfer& transfer, Each&& each) {
    for (std::size_t p = 0; p < c.parts.size(); ++p) {
        const Shard heads = common(c.parts[p].heads.heads, transfer.heads),
                    rows{0, parallel::num_seeing(c.windows, c.parts[p].heads, c.own_tokens(), transfer.tokens.end())};
        if (heads.count > 0 && rows.count > 0) each(p, heads, rows);
    }
}

/// Over this rank's own keys.
void forward_own(const Call& c, const Results& r, const Inputs& x) {
    const auto attend = [&](Tensor to, Shard heads, Shard rows) {
        if (rows.count == 0) return;
        c.ops().attention_forward(to, sums(c, r.lse, heads, rows), queries(c, x.q, heads, rows),
                                  keys(c, x.k, heads, {0, rows.end()}), keys(c, x.v, heads, {0, rows.end()}),
                                  windows_of(c, heads),
                                  place_of(c.context, c.own_tokens().begin + rows.begin, c.own_tokens().begin), false);
    };
    if (std::none_of(r.partials.begin(), r.partials.end(),
                     [](const ArenaTensor& part) { return static_cast<bool>(part); }))
        return attend(r.out, {0, c.context.config.num_kv_heads}, {0, c.own_tokens().count});
    for (std::size_t p = 0; p < c.parts.size(); ++p) {
        const auto& [of, num_rows] = c.parts[p];
        const Shard late{num_rows, c.own_tokens().count - num_rows};
        if (num_rows) attend(r.partials[p], of.heads, {0, num_rows});
        attend(queries(c, r.out, of.heads, late), of.heads, late);
    }
}

/// Merges arrived keys and values into the rows and heads that see them.
void forward_keys(const Call& c, const KvTransfer& transfer, Tensor piece, const Results& r, Tensor q) {
    const std::int64_t n = transfer.tokens.count;
    for_readers(c, transfer, [&](std::size_t p, Shard heads, Shard rows) {
        const Shard in_piece{heads.begin - transfer.heads.begin, heads.count};
        c.ops().attention_forward(r.waiting(c, p, heads, rows), sums(c, r.lse, heads, rows), queries(c, q, heads, rows),
                                  keys(c, piece, in_piece, {0, n}), keys(c, piece, in_piece, {n, n}),
                                  windows_of(c, heads),
                                  place_of(c.context, c.own_tokens().begin, transfer.tokens.begin), true);
    });
}

/// Another rank's queries over own keys: its partial result.
Piece forward_queries(const Call& c, const KvTransfer& transfer, const Piece& piece, const Inputs& x) {
    Piece result = make_piece(c, transfer, Pass::forward, Way::back);
    c.ops().attention_forward(result[0], result.lse, piece[0], own_keys(c, transfer, x.k), own_keys(c, transfer, x.v),
                              windows_of(c, transfer.heads),
                              place_of(c.context, transfer.queries.begin, transfer.tokens.begin), false);
    return result;
}

/// Partial results of own queries that came back.
void merge_returned(const Call& c, const std::vector<KvTransfer>& transfers, Round& round, const Results& r) {
    round.finish();
    for (std::size_t i = 0; i < transfers.size(); ++i)
        if (const Piece& piece = round.received[i]; piece.rows)
            for_readers(c, transfers[i], [&](std::size_t p, Shard heads, Shard rows) {
                const Shard in_piece{heads.begin - transfers[i].heads.begin, heads.count};
                rows.count =
                    std::min(rows.count, transfers[i].queries.count);  // a part may have other heads that see more
                c.ops().merge_attention(r.waiting(c, p, heads, rows), sums(c, r.lse, heads, rows),
                                        queries(c, piece[0], in_piece, rows), sums(c, piece.lse, in_piece, rows));
            });
    round.received.clear();
}

/// What backward adds to; float32.
struct Gradients {
    Tensor d_q, d_k, d_v;
};

/// Over this rank's own keys.
void backward_own(const Call& c, const Gradients& g, const Inputs& x, Shard rows) {
    if (rows.count == 0) return;
    const auto some = [&](Tensor of) { return of.rows(rows.begin, rows.count); };
    const auto seen = [&](Tensor of) { return of.rows(0, rows.end()); };
    c.ops().attention_backward(some(g.d_q), seen(g.d_k), seen(g.d_v), some(x.d_out), some(x.out),
                               x.lse.columns(rows.begin, rows.count), some(x.q), seen(x.k), seen(x.v), c.windows,
                               place_of(c.context, c.own_tokens().begin + rows.begin, c.own_tokens().begin));
}

/// The gradient of arrived keys and values.
Piece backward_keys(const Call& c, const KvTransfer& transfer, Tensor piece, const Gradients& g, const Inputs& x) {
    const std::int64_t n = transfer.tokens.count;
    Piece d_piece = make_piece(c, transfer, Pass::backward, Way::back);
    c.ops().fill(d_piece.rows, 0);
    for_readers(c, transfer, [&](std::size_t, Shard heads, Shard rows) {
        const Shard in_piece{heads.begin - transfer.heads.begin, heads.count};
        const auto of_queries = [&](Tensor of) { return queries(c, of, heads, rows); };
        const auto of_keys = [&](Tensor of, Shard at) { return keys(c, of, in_piece, at); };
        c.ops().attention_backward(of_queries(g.d_q), of_keys(d_piece.rows, {0, n}), of_keys(d_piece.rows, {n, n}),
                                   of_queries(x.d_out), of_queries(x.out), sums(c, x.lse, heads, rows), of_queries(x.q),
                                   of_keys(piece, {0, n}), of_keys(piece, {n, n}), windows_of(c, heads),
                                   place_of(c.context, c.own_tokens().begin, transfer.tokens.begin));
    });
    return d_piece;
}

/// The gradient of another rank's queries; that of own keys and values stays.
Piece backward_queries(const Call& c, const KvTransfer& transfer, const Piece& piece, const Gradients& g,
                       const Inputs& x) {
    Piece d_piece = make_piece(c, transfer, Pass::backward, Way::back);
    c.ops().fill(d_piece.rows, 0);
    c.ops().attention_backward(d_piece[0], own_keys(c, transfer, g.d_k), own_keys(c, transfer, g.d_v), piece[1],
                               piece[2], piece.lse, piece[0], own_keys(c, transfer, x.k), own_keys(c, transfer, x.v),
                               windows_of(c, transfer.heads),
                               place_of(c.context, transfer.queries.begin, transfer.tokens.begin));
    return d_piece;
}

/// Gradients of own keys and values that came back from those who saw them, and of own queries.
void add_returned(const Call& c, const std::vector<KvTransfer>& transfers, Round& round, const Gradients& g) {
    round.finish();
    for (std::size_t i = 0; i < transfers.size(); ++i) {
        const Piece& piece = round.received[i];
        if (!piece.rows) continue;
        if (transfers[i].at_owner()) {
            c.ops().add(own_queries(c, transfers[i], g.d_q), piece[0]);
            continue;
        }
        c.ops().add(own_keys(c, transfers[i], g.d_k), piece[0]);
        c.ops().add(own_keys(c, transfers[i], g.d_v), piece[1]);
    }
    round.received.clear();
}

std::size_t num_transfers(const Call& c) {
    std::size_t n = 0;
    for (const auto& round : c.rounds) n += round.size();
    return n;
}

/// Whether a halo does; none where owners compute for others, so that a kept one is all that a call needs.
bool stays(const StepContext& context, std::int64_t layer) {
    const ModelConfig& config = context.config;
    const int ranks = context.sequence->size();
    const Windows& pattern = context.windows_without_documents(layer);
    return parallel::stays_until_backward(
        parallel::kv_transfers(pattern, pattern, ranks, config.num_heads, config.num_kv_heads), context.context_length,
        ranks, config.num_kv_heads);
}

bool alone(const StepContext& context) { return !context.sequence || context.sequence->size() == 1; }

}  // namespace

void sequence_attention_forward(const StepContext& context, std::int64_t s, std::int64_t layer, Tensor out, Tensor lse,
                                Tensor q, Tensor k, Tensor v, Halo& halo, bool keep_halo) {
    if (alone(context))
        return context.ops().attention_forward(out, lse, q, k, v, context.windows(s, layer),
                                               place_of(context, context.own_tokens.begin, context.own_tokens.begin),
                                               false);
    const Call c = make_call(context, s, layer);
    const Inputs x{q, k, v};
    const bool here = !halo.empty(), fill = !here && keep_halo && stays(context, layer);
    ensure(!here || halo.size() == num_transfers(c), "a kept halo belongs to the same windows");
    Round next = here ? Round{} : start_there(c, 0, x, Pass::forward), returned;
    const Results r{out, lse, make_partials(c, out)};
    forward_own(c, r, x);
    std::size_t at = 0;  // of the halo
    for (std::size_t j = 0; j < c.rounds.size(); ++j) {
        Round now = std::move(next);
        now.finish();
        next = here ? Round{} : start_there(c, j + 1, x, Pass::forward);
        if (fill)
            for (Piece& piece : now.received) halo.push_back(std::move(piece.rows));
        std::vector<Piece> results(c.rounds[j].size());
        for (std::size_t i = 0; i < results.size(); ++i, ++at) {
            const KvTransfer& transfer = c.rounds[j][i];
            if (!receives(c, transfer, Way::there)) continue;
            if (transfer.at_owner()) results[i] = forward_queries(c, transfer, now.received[i], x);
            else forward_keys(c, transfer, here || fill ? halo[at] : now.received[i].rows, r, q);
        }
        now.received.clear();
        if (j > 0) merge_returned(c, c.rounds[j - 1], returned, r);
        returned = start_round(c, c.rounds[j], std::move(results), Pass::forward, Way::back);
    }
    if (!c.rounds.empty()) merge_returned(c, c.rounds.back(), returned, r);
    for (std::size_t p = 0; p < r.partials.size(); ++p)
        if (r.partials[p])
            c.ops().copy(queries(c, out, c.parts[p].heads.heads, {0, c.parts[p].num_rows}), r.partials[p]);
}

void sequence_attention_backward(const StepContext& context, std::int64_t s, std::int64_t layer, Tensor d_q, Tensor d_k,
                                 Tensor d_v, Tensor d_out, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                                 Halo& halo) {
    if (alone(context))
        return context.ops().attention_backward(d_q, d_k, d_v, d_out, out, lse, q, k, v, context.windows(s, layer),
                                                place_of(context, context.own_tokens.begin, context.own_tokens.begin));
    const Call c = make_call(context, s, layer);
    const Gradients g{d_q, d_k, d_v};
    const Inputs x{q, k, v, d_out, out, lse};
    const bool here = !halo.empty();
    ensure(!here || halo.size() == num_transfers(c), "a kept halo belongs to the same windows");
    // Something to compute while the first pieces come, if they must, and while the last gradients go back.
    const std::int64_t n = c.own_tokens().count, before = here || c.rounds.empty() ? 0 : n / 2;
    Round next = here ? Round{} : start_there(c, 0, x, Pass::backward), returned;
    backward_own(c, g, x, {0, before});
    std::size_t at = 0;  // of the halo
    for (std::size_t j = 0; j < c.rounds.size(); ++j) {
        Round now = std::move(next);
        now.finish();
        next = here ? Round{} : start_there(c, j + 1, x, Pass::backward);
        std::vector<Piece> d_pieces(c.rounds[j].size());
        for (std::size_t i = 0; i < d_pieces.size(); ++i, ++at) {
            const KvTransfer& transfer = c.rounds[j][i];
            if (!receives(c, transfer, Way::there)) continue;
            Piece piece;
            if (here) piece.rows = std::move(halo[at]);
            else piece = std::move(now.received[i]);
            d_pieces[i] = transfer.at_owner() ? backward_queries(c, transfer, piece, g, x)
                                              : backward_keys(c, transfer, piece.rows, g, x);
        }
        if (j > 0) add_returned(c, c.rounds[j - 1], returned, g);
        returned = start_round(c, c.rounds[j], std::move(d_pieces), Pass::backward, Way::back);
    }
    backward_own(c, g, x, {before, n - before});
    if (!c.rounds.empty()) add_returned(c, c.rounds.back(), returned, g);
    halo.clear();
}

}  // namespace longlora
