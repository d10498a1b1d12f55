// Projections composed of matrix products. Backward computes x A^T again: this costs R/out of the projection, and
// forward has nothing to keep.
#include "model/linear.h"

namespace longlora {

Linear linear_of(const Weights& weights, const std::string& name) {
    const auto& list = weights.list();
    Linear linear;
    const Parameter& w = list.find(name + ".weight");
    linear.weight = weights.weight(w);
    linear.d_weight = weights.gradient(w);
    return linear;
}

Linear linear_of(const Weights& weights, std::int64_t layer, Projection p) {
    const std::string name = projection_name(layer, p);
    Linear linear = linear_of(weights, name);
    if (!weights.trainables().targets(p)) return linear;
    const Parameter &a = weights.list().find(name + ".lora_A.weight"),
                    &b = weights.list().find(name + ".lora_B.weight");
    linear.lora_a = weights.weight(a);
    linear.lora_b = weights.weight(b);
    linear.d_lora_a = weights.gradient(a);
    linear.d_lora_b = weights.gradient(b);
    linear.lora_scale = weights.trainables().lora_scale();
    return linear;
}

void linear_forward(const StepContext& context, Tensor y, ConstTensor x, const Linear& linear, Write write) {
    Ops ops = context.ops();
    ops.matmul(y, x, linear.weight, Transpose::no, Transpose::yes, 1, write == Write::accumulate ? 1.f : 0.f);
    if (!linear.has_lora()) return;
    const ArenaTensor u = context.workspace({x.num_rows(), linear.lora_a.shape[0]});
    ops.matmul(u, x, linear.lora_a, Transpose::no, Transpose::yes);
    ops.matmul(y, u, linear.lora_b, Transpose::no, Transpose::yes, linear.lora_scale, 1);
}

void linear_backward(const StepContext& context, Tensor d_x, ConstTensor d_y, ConstTensor x, const Linear& linear,
                     Write write) {
    Ops ops = context.ops();
    if (d_x)
        ops.matmul(d_x, d_y, linear.weight, Transpose::no, Transpose::no, 1, write == Write::accumulate ? 1.f : 0.f);
    if (linear.d_weight) ops.matmul(linear.d_weight, d_y, x, Transpose::yes, Transpose::no, 1, 1);
    if (!linear.has_lora()) return;
    const std::int64_t rank = linear.lora_a.shape[0];
    const ArenaTensor u = context.workspace({d_y.num_rows(), rank}), d_u = context.workspace({d_y.num_rows(), rank});
    ops.matmul(d_u, d_y, linear.lora_b, Transpose::no, Transpose::no, linear.lora_scale);
    if (d_x) ops.matmul(d_x, d_u, linear.lora_a, Transpose::no, Transpose::no, 1, 1);
    if (!linear.d_lora_a) return;
    ops.matmul(u, x, linear.lora_a, Transpose::no, Transpose::yes);
    ops.matmul(linear.d_lora_b, d_y, u, Transpose::yes, Transpose::no, linear.lora_scale, 1);
    ops.matmul(linear.d_lora_a, d_u, x, Transpose::yes, Transpose::no, 1, 1);
}

}  // namespace longlora
