// Parameter by parameter, because groups differ in their rates.
#include "train/optimizer.h"

namespace longlora {
namespace {

AdamwOptions rates_of(const OptimizerOptions& o, ParameterGroup group, double lr_factor, std::int64_t step) {
    const double lr = group == ParameterGroup::embedding ? o.lr_embedding : group == ParameterGroup::norm ? o.lr_norm : o.lr;
    return {lr * lr_factor, o.beta1, o.beta2, o.eps, group == ParameterGroup::norm ? 0 : o.weight_decay, step};
}

}  // namespace

void optimizer_step(Weights& weights, const OptimizerOptions& options, double lr_factor, std::int64_t step, Tensor scale) {
    Ops ops = weights.device().ops();
    for (const auto& p : weights.list().parameters) {
        if (!p.trainable) continue;
        const auto& b = weights.buffers(p.unit);
        const auto part = [&](const ArenaTensor& flat) { return flat ? flat->slice(p.offset, p.shape.count()) : Tensor{}; };
        ops.adamw(part(b.master), part(b.moment1), part(b.moment2), part(b.rounded), part(b.gradient), scale, rates_of(options, p.group, lr_factor, step));
    }
}

}  // namespace longlora
