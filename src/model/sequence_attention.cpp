// Shapes: n tokens of this rank, H query heads, K key/value heads, E head_dim. A piece is what one transfer carries: (2 * tokens, heads * E), rows of K, then rows of V.
// Pieces arrive round by round (round j: from the rank j to the left): while one is computed with, the next is under way, and no more than these two are in memory
// unless they stay. The order of rounds and transfers is fixed, and so are all sums.
#include "model/sequence_attention.h"

#include <cmath>

#include "dist/kv_exchange.h"

namespace longlora {
namespace {

using dist::KvTransfer, dist::Shard;

/// Query heads of some K/V heads, and how many of this rank's first rows see keys of other ranks there.
struct Part {
    dist::KvHeadClass heads;
    std::int64_t num_rows = 0;
};

/// The attention of one sequence on this rank.
struct Call {
    const StepContext& context;
    const Windows& windows;
    std::int64_t head_dim, group;   ///< E; H / K
    std::vector<std::vector<KvTransfer>> rounds;
    std::vector<Part> parts;

    int rank() const { return context.sequence->rank(); }
    Shard local() const { return context.local; }
    Ops ops() const { return context.ops(); }
};

/// This rank's first rows that see, in any of these heads, keys before token `end`.
std::int64_t rows_seeing(const Call& c, const dist::KvHeadClass& heads, std::int64_t end) {
    const auto count = [&](HeadKind kind) {
        const auto own = c.windows.host[kind == HeadKind::shifted].subspan(static_cast<std::size_t>(c.local().begin), static_cast<std::size_t>(c.local().count));
        return std::lower_bound(own.begin(), own.end(), end) - own.begin();   // first keys never decrease
    };
    return std::max(heads.plain ? count(HeadKind::plain) : 0, heads.shifted ? count(HeadKind::shifted) : 0);
}

Call make_call(const StepContext& context, std::int64_t s, std::int64_t layer) {
    const ModelConfig& config = context.config;
    const Windows& windows = context.windows(s, layer);
    Call c{context, windows, config.head_dim, config.num_heads / config.num_kv_heads, {}, {}};
    c.rounds = dist::kv_transfers(windows, context.sequence->size(), config.num_heads, config.num_kv_heads);
    for (const dist::KvHeadClass& heads : dist::kv_head_classes(windows, config.num_heads, config.num_kv_heads)) {
        const std::int64_t rows = rows_seeing(c, heads, context.local.begin);
        if (c.parts.empty() || c.parts.back().num_rows != rows) {
            c.parts.push_back({heads, rows});
            continue;
        }
        dist::KvHeadClass& wider = c.parts.back().heads;
        wider = {{wider.heads.begin, wider.heads.count + heads.heads.count}, wider.plain || heads.plain, wider.shifted || heads.shifted};
    }
    return c;
}

AttentionPlace place_of(const StepContext& context, std::int64_t first_row, std::int64_t key_begin) {
    const std::int64_t head_dim = context.config.head_dim;
    return {head_dim, context.local.begin + first_row, key_begin, static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)))};
}

Shard common(Shard a, Shard b) {
    const std::int64_t begin = std::max(a.begin, b.begin);
    return {begin, std::max<std::int64_t>(0, std::min(a.end(), b.end()) - begin)};
}

// Views of some K/V heads and their query heads. `rows` are of this rank.
Tensor queries(const Call& c, Tensor x, Shard heads, Shard rows) {
    return x.rows(rows.begin, rows.count).columns(heads.begin * c.group * c.head_dim, heads.count * c.group * c.head_dim);
}
Tensor keys(const Call& c, Tensor x, Shard heads, Shard rows) { return x.rows(rows.begin, rows.count).columns(heads.begin * c.head_dim, heads.count * c.head_dim); }
Tensor sums(const Call& c, Tensor lse, Shard heads, Shard rows) { return lse.rows(heads.begin * c.group, heads.count * c.group).columns(rows.begin, rows.count); }
Windows windows_of(const Call& c, Shard heads) {
    Windows w = c.windows;
    w.num_plain_heads = std::clamp<std::int64_t>(w.num_plain_heads - heads.begin * c.group, 0, heads.count * c.group);
    return w;
}

Tensor k_of(Tensor piece) { return piece.rows(0, piece.shape[0] / 2); }
Tensor v_of(Tensor piece) { return piece.rows(piece.shape[0] / 2, piece.shape[0] / 2); }
ArenaTensor make_piece(const Call& c, const KvTransfer& transfer, DType dtype) {
    return c.context.device.memory().tensor(dtype, {2 * transfer.tokens.count, transfer.heads.count * c.head_dim}, Use::exchange);
}
/// The rows and heads of this rank's own x (n, K*E) that the transfer is about.
Tensor own_part(const Call& c, const KvTransfer& transfer, Tensor x) { return keys(c, x, transfer.heads, {transfer.tokens.begin - c.local().begin, transfer.tokens.count}); }

/// A round's pieces on their way, by transfer; empty where the transfer is between other ranks.
struct Round {
    std::vector<ArenaTensor> sent, received;
    dist::Request request;

    void finish() {
        request.finish();
        sent.clear();
    }
};

/// Sends `sent` and makes room for what comes. Forward pieces go to the right, their gradients back to the left.
Round start_round(const Call& c, const std::vector<KvTransfer>& transfers, std::vector<ArenaTensor> sent, bool forward, DType dtype) {
    Round round{std::move(sent), std::vector<ArenaTensor>(transfers.size()), {}};
    std::vector<dist::Send> sends;
    std::vector<dist::Receive> receives;
    for (std::size_t i = 0; i < transfers.size(); ++i) {
        const int from = forward ? transfers[i].from : transfers[i].to, to = forward ? transfers[i].to : transfers[i].from;
        if (from == c.rank()) sends.push_back({to, round.sent[i]});
        if (to != c.rank()) continue;
        round.received[i] = make_piece(c, transfers[i], dtype);
        receives.push_back({from, round.received[i]});
    }
    round.request = c.context.sequence->exchange(sends, receives, Device::compute_stream());
    return round;
}

Round start_keys(const Call& c, std::size_t j, Tensor k, Tensor v) {
    if (j >= c.rounds.size()) return {};
    std::vector<ArenaTensor> sent(c.rounds[j].size());
    for (std::size_t i = 0; i < sent.size(); ++i) {
        const KvTransfer& transfer = c.rounds[j][i];
        if (transfer.from != c.rank()) continue;
        sent[i] = make_piece(c, transfer, k.dtype);
        c.ops().copy(k_of(sent[i]), own_part(c, transfer, k));
        c.ops().copy(v_of(sent[i]), own_part(c, transfer, v));
    }
    return start_round(c, c.rounds[j], std::move(sent), true, k.dtype);
}

/// Where partial results of each part are merged while keys arrive: out itself if it is float32, else memory of their own for the rows that wait for keys.
std::vector<ArenaTensor> make_partials(const Call& c, Tensor out) {
    std::vector<ArenaTensor> partials(c.parts.size());
    for (std::size_t p = 0; p < partials.size() && out.dtype != DType::float32; ++p)
        if (c.parts[p].num_rows) partials[p] = c.context.statistics({c.parts[p].num_rows, c.parts[p].heads.heads.count * c.group * c.head_dim});
    return partials;
}

/// Over this rank's own keys.
void forward_own(const Call& c, Tensor out, const std::vector<ArenaTensor>& partials, Tensor lse, Tensor q, Tensor k, Tensor v) {
    const auto attend = [&](Tensor to, Shard heads, Shard rows) {
        if (rows.count == 0) return;
        c.ops().attention_forward(to, sums(c, lse, heads, rows), queries(c, q, heads, rows), keys(c, k, heads, {0, rows.end()}), keys(c, v, heads, {0, rows.end()}), windows_of(c, heads),
                                  place_of(c.context, rows.begin, c.local().begin), false);
    };
    if (std::none_of(partials.begin(), partials.end(), [](const ArenaTensor& x) { return static_cast<bool>(x); }))
        return attend(out, {0, c.context.config.num_kv_heads}, {0, c.local().count});
    for (std::size_t p = 0; p < c.parts.size(); ++p) {
        const auto& [of, num_rows] = c.parts[p];
        const Shard late{num_rows, c.local().count - num_rows};
        if (num_rows) attend(partials[p], of.heads, {0, num_rows});
        attend(queries(c, out, of.heads, late), of.heads, late);
    }
}

/// Merges an arrived piece into the rows and heads that see it.
void forward_piece(const Call& c, const KvTransfer& transfer, Tensor piece, Tensor out, const std::vector<ArenaTensor>& partials, Tensor lse, Tensor q) {
    for (std::size_t p = 0; p < c.parts.size(); ++p) {
        const Shard part = c.parts[p].heads.heads, heads = common(part, transfer.heads), rows{0, rows_seeing(c, c.parts[p].heads, transfer.tokens.end())};
        if (heads.count == 0 || rows.count == 0) continue;
        const Tensor to = partials[p] ? queries(c, partials[p], {heads.begin - part.begin, heads.count}, rows) : queries(c, out, heads, rows);
        const Shard in_piece{heads.begin - transfer.heads.begin, heads.count}, all{0, transfer.tokens.count};
        c.ops().attention_forward(to, sums(c, lse, heads, rows), queries(c, q, heads, rows), keys(c, k_of(piece), in_piece, all), keys(c, v_of(piece), in_piece, all), windows_of(c, heads),
                                  place_of(c.context, 0, transfer.tokens.begin), true);
    }
}

/// What backward reads and adds to; all of this rank's rows.
struct Gradients {
    Tensor d_q, d_k, d_v, d_out, out, lse, q;
};

/// Over this rank's own keys.
void backward_own(const Call& c, const Gradients& g, Tensor k, Tensor v, Shard rows) {
    if (rows.count == 0) return;
    const auto some = [&](Tensor x) { return x.rows(rows.begin, rows.count); };
    const auto seen = [&](Tensor x) { return x.rows(0, rows.end()); };
    c.ops().attention_backward(some(g.d_q), seen(g.d_k), seen(g.d_v), some(g.d_out), some(g.out), g.lse.columns(rows.begin, rows.count), some(g.q), seen(k), seen(v), c.windows,
                               place_of(c.context, rows.begin, c.local().begin));
}

/// The gradient of an arrived piece, float32.
ArenaTensor backward_piece(const Call& c, const KvTransfer& transfer, Tensor piece, const Gradients& g) {
    ArenaTensor d_piece = make_piece(c, transfer, DType::float32);
    c.ops().fill(d_piece, 0);
    for (const Part& part : c.parts) {
        const Shard heads = common(part.heads.heads, transfer.heads), rows{0, rows_seeing(c, part.heads, transfer.tokens.end())};
        if (heads.count == 0 || rows.count == 0) continue;
        const Shard in_piece{heads.begin - transfer.heads.begin, heads.count}, all{0, transfer.tokens.count};
        const auto of_queries = [&](Tensor x) { return queries(c, x, heads, rows); };
        const auto of_keys = [&](Tensor x) { return keys(c, x, in_piece, all); };
        c.ops().attention_backward(of_queries(g.d_q), of_keys(k_of(d_piece)), of_keys(v_of(d_piece)), of_queries(g.d_out), of_queries(g.out), sums(c, g.lse, heads, rows), of_queries(g.q),
                                   of_keys(k_of(piece)), of_keys(v_of(piece)), windows_of(c, heads), place_of(c.context, 0, transfer.tokens.begin));
    }
    return d_piece;
}

/// Gradients of own keys and values that came back from those who saw them.
void add_returned(const Call& c, const std::vector<KvTransfer>& transfers, Round& round, Tensor d_k, Tensor d_v) {
    round.finish();
    for (std::size_t i = 0; i < transfers.size(); ++i) {
        if (!round.received[i]) continue;
        c.ops().add(own_part(c, transfers[i], d_k), k_of(round.received[i]));
        c.ops().add(own_part(c, transfers[i], d_v), v_of(round.received[i]));
    }
    round.received.clear();
}

std::size_t num_transfers(const Call& c) {
    std::size_t n = 0;
    for (const auto& round : c.rounds) n += round.size();
    return n;
}

bool stays(const StepContext& context, std::int64_t layer) {
    const ModelConfig& config = context.config;
    const int ranks = context.sequence->size();
    return dist::stays_until_backward(dist::kv_transfers(context.windows_without_documents(layer), ranks, config.num_heads, config.num_kv_heads), context.context_length, ranks,
                                      config.num_kv_heads);
}

bool alone(const StepContext& context) { return !context.sequence || context.sequence->size() == 1; }

}  // namespace

void sequence_attention_forward(const StepContext& context, std::int64_t s, std::int64_t layer, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, Halo& halo,
                                bool keep_halo) {
    if (alone(context)) return context.ops().attention_forward(out, lse, q, k, v, context.windows(s, layer), place_of(context, 0, context.local.begin), false);
    const Call c = make_call(context, s, layer);
    const bool here = !halo.empty(), fill = !here && keep_halo && stays(context, layer);
    ensure(!here || halo.size() == num_transfers(c), "a kept halo belongs to the same windows");
    Round next = here ? Round{} : start_keys(c, 0, k, v);
    const std::vector<ArenaTensor> partials = make_partials(c, out);
    forward_own(c, out, partials, lse, q, k, v);
    std::size_t at = 0;   // of the halo
    for (std::size_t j = 0; j < c.rounds.size(); ++j) {
        Round now = std::move(next);
        now.finish();
        next = here ? Round{} : start_keys(c, j + 1, k, v);
        for (std::size_t i = 0; i < c.rounds[j].size(); ++i) {
            if (fill) halo.push_back(std::move(now.received[i]));
            const Tensor piece = here || fill ? *halo[at + i] : *now.received[i];
            if (c.rounds[j][i].to == c.rank()) forward_piece(c, c.rounds[j][i], piece, out, partials, lse, q);
        }
        at += c.rounds[j].size();
    }
    for (std::size_t p = 0; p < partials.size(); ++p)
        if (partials[p]) c.ops().copy(queries(c, out, c.parts[p].heads.heads, {0, c.parts[p].num_rows}), partials[p]);
}

void sequence_attention_backward(const StepContext& context, std::int64_t s, std::int64_t layer, Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_out, Tensor out, Tensor lse,
                                 Tensor q, Tensor k, Tensor v, Halo& halo) {
    if (alone(context))
        return context.ops().attention_backward(d_q, d_k, d_v, d_out, out, lse, q, k, v, context.windows(s, layer), place_of(context, 0, context.local.begin));
    const Call c = make_call(context, s, layer);
    const Gradients g{d_q, d_k, d_v, d_out, out, lse, q};
    const bool here = !halo.empty();
    ensure(!here || halo.size() == num_transfers(c), "a kept halo belongs to the same windows");
    // Something to compute while the first keys come, if they must, and while the last gradients go back.
    const std::int64_t n = c.local().count, before = here || c.rounds.empty() ? 0 : n / 2;
    Round next = here ? Round{} : start_keys(c, 0, k, v), returned;
    backward_own(c, g, k, v, {0, before});
    std::size_t at = 0;   // of the halo
    for (std::size_t j = 0; j < c.rounds.size(); ++j) {
        Round now = std::move(next);
        now.finish();
        next = here ? Round{} : start_keys(c, j + 1, k, v);
        std::vector<ArenaTensor> d_pieces(c.rounds[j].size());
        for (std::size_t i = 0; i < d_pieces.size(); ++i, ++at) {
            if (c.rounds[j][i].to != c.rank()) continue;
            ArenaTensor& piece = here ? halo[at] : now.received[i];
            d_pieces[i] = backward_piece(c, c.rounds[j][i], piece, g);
            piece.release();
        }
        if (j > 0) add_returned(c, c.rounds[j - 1], returned, d_k, d_v);
        returned = start_round(c, c.rounds[j], std::move(d_pieces), false, DType::float32);
    }
    backward_own(c, g, k, v, {before, n - before});
    if (!c.rounds.empty()) add_returned(c, c.rounds.back(), returned, d_k, d_v);
    halo.clear();
}

}  // namespace longlora
