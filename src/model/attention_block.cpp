// Computes the attention half of a layer. Shapes: T tokens of the micro-batch on this rank (one sequence after
// another), D hidden, H heads, K key/value heads, E head_dim.
#include "model/attention_block.h"

namespace longlora {
namespace {

/// Rotates one sequence after another, since the tables have one row for each token of a sequence on this rank.
void rotate(const StepContext& context, Tensor x, bool inverse) {
    const std::int64_t n = context.local_length();
    for (std::int64_t s = 0; s < context.num_sequences; ++s)
        context.ops().rotary(x.rows(s * n, n), context.angles, context.config.head_dim, 0, inverse);
}

void make_qkv(const StepContext& context, const AttentionWeights& weights, ConstTensor h, AttentionSaved& saved) {
    const auto& c = context.config;
    const std::int64_t tokens = context.num_tokens();
    const ArenaTensor x = context.workspace({tokens, c.hidden}), rrms = context.statistics({tokens});
    context.ops().rmsnorm_forward(x, rrms, h, weights.norm, static_cast<float>(c.rms_norm_eps));
    saved.q = context.activation({tokens, c.num_heads * c.head_dim});
    saved.k = context.activation({tokens, c.num_kv_heads * c.head_dim});
    saved.v = context.activation({tokens, c.num_kv_heads * c.head_dim});
    linear_forward(context, saved.q, x, weights.q, Write::overwrite);
    linear_forward(context, saved.k, x, weights.k, Write::overwrite);
    linear_forward(context, saved.v, x, weights.v, Write::overwrite);
    rotate(context, saved.q, false);
    rotate(context, saved.k, false);
}

void attend(const StepContext& context, std::int64_t layer, AttentionSaved& saved, bool keep_halo) {
    const std::int64_t n = context.local_length(), heads = context.config.num_heads;
    saved.out = context.activation(saved.q->shape);
    saved.lse = context.statistics({heads, context.num_tokens()}, Use::activations);
    saved.halos.resize(context.num_sequences);
    for (std::int64_t s = 0; s < context.num_sequences; ++s)
        sequence_attention_forward(
            context, s, layer, {.out = saved.out->rows(s * n, n), .lse = saved.lse->columns(s * n, n)},
            {.q = saved.q->rows(s * n, n), .k = saved.k->rows(s * n, n), .v = saved.v->rows(s * n, n)}, saved.halos[s],
            keep_halo);
}

void make_mid(const StepContext& context, const AttentionWeights& weights, ConstTensor h, AttentionSaved& saved) {
    saved.mid = context.activation(h.shape);
    context.ops().copy(saved.mid, h);
    linear_forward(context, saved.mid, saved.out, weights.o, Write::accumulate);
}

}  // namespace

AttentionWeights attention_weights_of(const Weights& weights, std::int64_t layer) {
    const Parameter& norm = weights.list().find(text("model.layers.", layer, ".input_layernorm.weight"));
    return {weights.weight(norm),
            weights.gradient(norm),
            linear_of(weights, layer, Projection::q),
            linear_of(weights, layer, Projection::k),
            linear_of(weights, layer, Projection::v),
            linear_of(weights, layer, Projection::o)};
}

AttentionSaved attention_forward(const StepContext& context, const AttentionWeights& weights, std::int64_t layer,
                                 ConstTensor h, const KeptActivations& kept) {
    AttentionSaved saved;
    make_qkv(context, weights, h, saved);
    attend(context, layer, saved, kept.halo);
    if (!kept.qkv) saved.q.release(), saved.k.release(), saved.v.release();
    make_mid(context, weights, h, saved);
    if (!kept.attention) saved.out.release(), saved.lse.release();
    return saved;
}

void attention_restore(const StepContext& context, const AttentionWeights& weights, std::int64_t layer, ConstTensor h,
                       AttentionSaved& saved) {
    if (!saved.q) make_qkv(context, weights, h, saved);
    if (!saved.out) attend(context, layer, saved, true);  // keeps the halo: backward is next
    if (!saved.mid) make_mid(context, weights, h, saved);
}

void attention_backward(const StepContext& context, const AttentionWeights& weights, std::int64_t layer, Tensor d_h,
                        ConstTensor h, AttentionSaved& saved) {
    const auto& c = context.config;
    const std::int64_t n = context.local_length(), tokens = context.num_tokens();
    Ops ops = context.ops();
    saved.mid.release();
    ArenaTensor d_out = context.workspace(saved.out->shape);
    linear_backward(context, d_out, d_h, saved.out, weights.o, Write::overwrite);
    // The gradients of q, k and v are sums over keys or queries: they are summed in float32 and rounded once.
    ArenaTensor d_q = context.statistics(saved.q->shape), d_k = context.statistics(saved.k->shape),
                d_v = context.statistics(saved.v->shape);
    for (Tensor d : {*d_q, *d_k, *d_v}) ops.fill(d, 0);
    for (std::int64_t s = 0; s < context.num_sequences; ++s) {
        const auto rows = [&](const ArenaTensor& x) { return x->rows(s * n, n); };
        sequence_attention_backward(context, s, layer, {.d_q = rows(d_q), .d_k = rows(d_k), .d_v = rows(d_v)},
                                    {.q = rows(saved.q),
                                     .k = rows(saved.k),
                                     .v = rows(saved.v),
                                     .d_out = rows(d_out),
                                     .out = rows(saved.out),
                                     .lse = saved.lse->columns(s * n, n)},
                                    saved.halos[s]);
    }
    d_out.release();
    saved = {};
    rotate(context, d_q, true);
    rotate(context, d_k, true);
    if (context.real != DType::float32)
        for (ArenaTensor* d : {&d_q, &d_k, &d_v}) {
            ArenaTensor rounded = context.workspace((*d)->shape);
            ops.copy(rounded, *d);
            *d = std::move(rounded);
        }
    const ArenaTensor x = context.workspace({tokens, c.hidden}), d_x = context.workspace({tokens, c.hidden}),
                      rrms = context.statistics({tokens});
    ops.rmsnorm_forward(x, rrms, h, weights.norm, static_cast<float>(c.rms_norm_eps));
    linear_backward(context, d_x, d_q, x, weights.q, Write::overwrite);
    linear_backward(context, d_x, d_k, x, weights.k, Write::accumulate);
    linear_backward(context, d_x, d_v, x, weights.v, Write::accumulate);
    ops.rmsnorm_backward({.d_x = d_h, .d_weight = weights.d_norm},
                         {.d_y = d_x, .x = h, .weight = weights.norm, .rrms = rrms});
}

}  // namespace longlora
