// It updates parameter by parameter, because parameter groups have different rates.
#include "train/optimizer.h"

namespace longlora {
namespace {

AdamwOptions rates_of(const OptimizerOptions& o, ParameterGroup group, double lr_factor, std::int64_t step) {
    const double lr = group == ParameterGroup::embedding ? o.lr_embedding
                      : group == ParameterGroup::norm    ? o.lr_norm
                                                         : o.lr;
    return {lr * lr_factor, o.beta1, o.beta2, o.eps, group == ParameterGroup::norm ? 0 : o.weight_decay, step};
}

}  // namespace

void optimizer_step(Weights& weights, const OptimizerOptions& options, double lr_factor, std::int64_t step,
                    ConstTensor scale) {
    Ops ops = weights.device().ops();
    for (const OwnedPart& part : weights.owned_parts()) {
        const std::int64_t unit = part.parameter->unit;
        const auto of = [&](Tensor own) { return own ? own.slice(part.in_own, part.in_parameter.count) : Tensor{}; };
        ops.adamw({.master = of(weights.own_master(unit)),
                   .m = of(weights.own_moment(unit, 1)),
                   .v = of(weights.own_moment(unit, 2)),
                   .weight = of(weights.own_weight(unit))},
                  {.grad = of(weights.own_gradient(unit)), .scale = scale},
                  rates_of(options, part.parameter->group, lr_factor, step));
    }
}

}  // namespace longlora
