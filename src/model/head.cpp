// Computes the head. Logits are float32 whatever the computing type, so that losses are not rounded to it. The
// gradient of the logits is rounded to the computing type.
#include "model/head.h"

namespace longlora {
namespace {

void normalised_logits(const StepContext& context, const HeadWeights& weights, Tensor logits, Tensor x, Tensor rrms,
                       ConstTensor h) {
    context.ops().rmsnorm_forward(x, rrms, h, weights.norm, static_cast<float>(context.config.rms_norm_eps));
    context.ops().matmul(logits, x, weights.head, Transpose::no, Transpose::yes);
}

}  // namespace

HeadWeights head_weights_of(const Weights& weights) {
    const auto& list = weights.list();
    const Parameter &norm = list.find("model.norm.weight"),
                    &head = list.find(weights.config().tied ? "model.embed_tokens.weight" : "lm_head.weight");
    return {weights.weight(norm), weights.gradient(norm), weights.weight(head), weights.gradient(head)};
}

const Parameter& table_of(const Weights& weights) { return weights.list().find("model.embed_tokens.weight"); }

void head_loss(const StepContext& context, const HeadWeights& weights, Tensor loss_sum, ConstTensor h,
               ConstTensor labels) {
    const auto& c = context.config;
    const std::int64_t tokens = h.num_rows(), tile = std::min(tokens, tile_rows(c.vocabulary));
    const ArenaTensor x = context.workspace({tile, c.hidden}), rrms = context.statistics({tile}),
                      logits = context.statistics({tile, c.vocabulary});
    for_tiles(tokens, tile, [&](std::int64_t begin, std::int64_t t) {
        normalised_logits(context, weights, logits->rows(0, t), x->rows(0, t), rrms->slice(0, t), h.rows(begin, t));
        context.ops().cross_entropy(loss_sum, logits->rows(0, t), labels.slice(begin, t), 1, false);
    });
}

void head_loss_backward(const StepContext& context, const HeadWeights& weights, Tensor loss_sum, Tensor d_h,
                        ConstTensor h, ConstTensor labels, float scale) {
    const auto& c = context.config;
    const std::int64_t tokens = h.num_rows(), tile = std::min(tokens, tile_rows(c.vocabulary));
    Ops ops = context.ops();
    const ArenaTensor x = context.workspace({tile, c.hidden}), d_x = context.workspace({tile, c.hidden}),
                      rrms = context.statistics({tile});
    const ArenaTensor logits = context.statistics({tile, c.vocabulary});
    const ArenaTensor rounded =
        context.real == DType::float32 ? ArenaTensor{} : context.workspace({tile, c.vocabulary});
    ops.fill(d_h, 0);
    for_tiles(tokens, tile, [&](std::int64_t begin, std::int64_t t) {
        const Tensor x_t = x->rows(0, t), rrms_t = rrms->slice(0, t), d_x_t = d_x->rows(0, t);
        const ConstTensor h_t = h.rows(begin, t);
        Tensor d_logits = logits->rows(0, t);
        normalised_logits(context, weights, d_logits, x_t, rrms_t, h_t);
        ops.cross_entropy(loss_sum, d_logits, labels.slice(begin, t), scale, true);
        if (rounded) {
            ops.copy(rounded->rows(0, t), d_logits);
            d_logits = rounded->rows(0, t);
        }
        ops.matmul(d_x_t, d_logits, weights.head, Transpose::no, Transpose::no);
        if (weights.d_head) ops.matmul(weights.d_head, d_logits, x_t, Transpose::yes, Transpose::no, 1, 1);
        ops.rmsnorm_backward({.d_x = d_h.rows(begin, t), .d_weight = weights.d_norm},
                             {.d_y = d_x_t, .x = h_t, .weight = weights.norm, .rrms = rrms_t});
    });
}

void head_logits(const StepContext& context, const HeadWeights& weights, Tensor logits, ConstTensor h) {
    const auto& c = context.config;
    const std::int64_t tokens = h.num_rows(), tile = std::min(tokens, tile_rows(c.vocabulary));
    const ArenaTensor x = context.workspace({tile, c.hidden}), rrms = context.statistics({tile});
    for_tiles(tokens, tile, [&](std::int64_t begin, std::int64_t t) {
        normalised_logits(context, weights, logits.rows(begin, t), x->rows(0, t), rrms->slice(0, t), h.rows(begin, t));
    });
}

}  // namespace longlora
