// Computes the MLP half of a layer. Shapes: t rows of a tile, D hidden, F intermediate.
#include "model/mlp_block.h"

namespace longlora {

MlpWeights mlp_weights_of(const Weights& weights, std::int64_t layer) {
    const Parameter& norm = weights.list().find(text("model.layers.", layer, ".post_attention_layernorm.weight"));
    return {weights.weight(norm), weights.gradient(norm), linear_of(weights, layer, Projection::gate),
            linear_of(weights, layer, Projection::up), linear_of(weights, layer, Projection::down)};
}

MlpSaved mlp_forward(const StepContext& context, const MlpWeights& weights, Tensor out, ConstTensor mid,
                     bool keep_gate_up) {
    const auto& c = context.config;
    const std::int64_t tokens = mid.num_rows(), tile = std::min(tokens, tile_rows(c.intermediate));
    Ops ops = context.ops();
    MlpSaved saved;
    if (keep_gate_up) {
        saved.gate = context.activation({tokens, c.intermediate});
        saved.up = context.activation({tokens, c.intermediate});
    }
    const ArenaTensor x = context.workspace({tile, c.hidden}), rrms = context.statistics({tile});
    const ArenaTensor gate_tile = context.workspace({tile, c.intermediate});  // also receives the activation
    const ArenaTensor up_tile = keep_gate_up ? ArenaTensor{} : context.workspace({tile, c.intermediate});
    for_tiles(tokens, tile, [&](std::int64_t begin, std::int64_t t) {
        const Tensor gate = keep_gate_up ? saved.gate->rows(begin, t) : gate_tile->rows(0, t);
        const Tensor up = keep_gate_up ? saved.up->rows(begin, t) : up_tile->rows(0, t);
        ops.rmsnorm_forward(x->rows(0, t), rrms->slice(0, t), mid.rows(begin, t), weights.norm,
                            static_cast<float>(c.rms_norm_eps));
        linear_forward(context, gate, x->rows(0, t), weights.gate, Write::overwrite);
        linear_forward(context, up, x->rows(0, t), weights.up, Write::overwrite);
        ops.swiglu_forward(gate_tile->rows(0, t), {.gate = gate, .up = up});
        ops.copy(out.rows(begin, t), mid.rows(begin, t));
        linear_forward(context, out.rows(begin, t), gate_tile->rows(0, t), weights.down, Write::accumulate);
    });
    return saved;
}

void mlp_backward(const StepContext& context, const MlpWeights& weights, Tensor d_h, ConstTensor mid, MlpSaved& saved) {
    const auto& c = context.config;
    const std::int64_t tokens = mid.num_rows(), tile = std::min(tokens, tile_rows(c.intermediate));
    const bool kept = static_cast<bool>(saved.gate);
    Ops ops = context.ops();
    const ArenaTensor x = context.workspace({tile, c.hidden}), d_x = context.workspace({tile, c.hidden}),
                      rrms = context.statistics({tile});
    const ArenaTensor gate_tile = kept ? ArenaTensor{} : context.workspace({tile, c.intermediate}),
                      up_tile = kept ? ArenaTensor{} : context.workspace({tile, c.intermediate});
    const ArenaTensor d_act = context.workspace({tile, c.intermediate}),
                      act_tile = weights.down.needs_input() ? context.workspace({tile, c.intermediate}) : ArenaTensor{};
    for_tiles(tokens, tile, [&](std::int64_t begin, std::int64_t t) {
        const Tensor x_t = x->rows(0, t), d_x_t = d_x->rows(0, t), d_act_t = d_act->rows(0, t),
                     rrms_t = rrms->slice(0, t);
        const Tensor gate = kept ? saved.gate->rows(begin, t) : gate_tile->rows(0, t),
                     up = kept ? saved.up->rows(begin, t) : up_tile->rows(0, t);
        ops.rmsnorm_forward(x_t, rrms_t, mid.rows(begin, t), weights.norm, static_cast<float>(c.rms_norm_eps));
        if (!kept) {
            linear_forward(context, gate, x_t, weights.gate, Write::overwrite);
            linear_forward(context, up, x_t, weights.up, Write::overwrite);
        }
        Tensor act;
        if (act_tile) ops.swiglu_forward(act = act_tile->rows(0, t), {.gate = gate, .up = up});
        linear_backward(context, d_act_t, d_h.rows(begin, t), act, weights.down, Write::overwrite);
        // d_gate overwrites gate, and d_up overwrites d_act.
        ops.swiglu_backward({.d_gate = gate, .d_up = d_act_t}, {.d_out = d_act_t, .gate = gate, .up = up});
        linear_backward(context, d_x_t, gate, x_t, weights.gate, Write::overwrite);
        linear_backward(context, d_x_t, d_act_t, x_t, weights.up, Write::accumulate);
        ops.rmsnorm_backward({.d_x = d_h.rows(begin, t), .d_weight = weights.d_norm},
                             {.d_y = d_x_t, .x = mid.rows(begin, t), .weight = weights.norm, .rrms = rrms_t});
    });
    saved = {};
}

}  // namespace longlora
