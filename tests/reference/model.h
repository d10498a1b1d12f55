// A Llama-family model with LoRA in plain double loops: forward and backward of one sequence. The function `stored`
// is applied to every value that an implementation keeps in its computing type. With the identity this model is the
// reference; with rounding to bfloat16 it is the plain bfloat16 implementation from whose error the tests derive
// their budgets. It is slow on purpose and shares nothing with src/ or kernels/. Parameters have the names of Hugging
// Face; those of LoRA are PROJECTION.lora_A.weight and PROJECTION.lora_B.weight. Shapes: N tokens, D hidden, F
// intermediate, V vocabulary, H heads, K key/value heads, E head_dim, R rank.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "tests/reference/attention.h"
#include "tests/reference/ops.h"

namespace longlora::reference {

using Values = Matrix<double>;
using Parameters = std::map<std::string, Values>;  // vectors are (1,n)

struct PlainModel {
    std::int64_t num_layers = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
    double eps = 1e-5, lora_scale = 0;
    bool tied = false;
    double (*stored)(double) = [](double x) { return x; };
    Parameters parameters;
    Values cos, sin;                          ///< (N, E/2)
    std::vector<AttentionProblem> attention;  ///< windows of each layer; problem_of() fills in the sizes

    const Values& head() const { return parameters.at(tied ? "model.embed_tokens.weight" : "lm_head.weight"); }
    bool has_lora(const std::string& projection) const { return parameters.count(projection + ".lora_A.weight") != 0; }
};

/// What a layer saves in the forward pass. x and mlp_x are the normalised inputs, rrms and mlp_rrms come from their
/// norms.
struct PlainLayer {
    Values h, x, rrms, q, k, v, out, mid, mlp_x, mlp_rrms, gate, up, act;
    std::vector<double> lse;
};
struct PlainForward {
    std::vector<PlainLayer> layers;
    Values h, x, rrms, logits;
    double loss_sum = 0;
};

namespace plain {

inline void store(const PlainModel& m, Values& x) {
    for (double& value : x.values) value = m.stored(value);
}

/// y = factor * a op(b), plus the earlier y if accumulate; then stored.
inline void multiply(const PlainModel& m, Values& y, const Values& a, const Values& b, bool transpose_b,
                     double factor = 1, bool accumulate = false) {
    matmul(y, a, b, false, transpose_b, factor, accumulate ? 1.0 : 0.0);
    store(m, y);
}

inline Values low_rank(const PlainModel& m, const Values& x, const std::string& name) {
    const Values& a = m.parameters.at(name + ".lora_A.weight");
    Values u(x.rows, a.rows);
    multiply(m, u, x, a, true);
    return u;
}

inline void linear(const PlainModel& m, Values& y, const Values& x, const std::string& name, bool accumulate = false) {
    multiply(m, y, x, m.parameters.at(name + ".weight"), true, 1, accumulate);
    if (m.has_lora(name))
        multiply(m, y, low_rank(m, x, name), m.parameters.at(name + ".lora_B.weight"), true, m.lora_scale, true);
}

/// Overwrites d_x with the gradient, or adds it to d_x, and adds to the gradients of the projection. Sums over tokens
/// are not rounded, because gradient buffers are float32.
inline void linear_backward(const PlainModel& m, Values& d_x, const Values& d_y, const Values& x,
                            const std::string& name, Parameters& gradients, bool accumulate = false) {
    multiply(m, d_x, d_y, m.parameters.at(name + ".weight"), false, 1, accumulate);
    matmul(gradients.at(name + ".weight"), d_y, x, true, false, 1.0, 1.0);
    if (!m.has_lora(name)) return;
    const Values &a = m.parameters.at(name + ".lora_A.weight"), &b = m.parameters.at(name + ".lora_B.weight");
    Values d_u(d_y.rows, a.rows);
    multiply(m, d_u, d_y, b, false, m.lora_scale);
    multiply(m, d_x, d_u, a, false, 1, true);
    matmul(gradients.at(name + ".lora_B.weight"), d_y, low_rank(m, x, name), true, false, m.lora_scale, 1.0);
    matmul(gradients.at(name + ".lora_A.weight"), d_u, x, true, false, 1.0, 1.0);
}

inline void normalise(const PlainModel& m, Values& y, Values& rrms, const Values& x, const std::string& name) {
    y = Values(x.rows, x.columns);
    rrms = Values(x.rows, 1);
    rmsnorm_forward(y, rrms, x, m.parameters.at(name), m.eps);
    store(m, y);
}

inline void normalise_backward(const PlainModel& m, Values& d_x, const Values& d_y, const Values& x, const Values& rrms,
                               const std::string& name, Parameters& gradients) {
    rmsnorm_backward(d_x, gradients.at(name), d_y, x, m.parameters.at(name), rrms);
    store(m, d_x);
}

inline AttentionProblem problem_of(const PlainModel& m, std::int64_t layer, std::int64_t tokens) {
    AttentionProblem p = m.attention[static_cast<std::size_t>(layer)];
    p.num_queries = p.num_keys = tokens;
    p.num_heads = m.num_heads;
    p.num_kv_heads = m.num_kv_heads;
    p.head_dim = m.head_dim;
    p.scale = 1 / std::sqrt(static_cast<double>(m.head_dim));
    return p;
}

inline std::string layer_name(std::int64_t layer, const char* part) {
    return "model.layers." + std::to_string(layer) + "." + part;
}

inline Values layer_forward(const PlainModel& m, std::int64_t layer, const Values& h, PlainLayer& saved) {
    const auto name = [&](const char* part) { return layer_name(layer, part); };
    const std::int64_t tokens = h.rows;
    saved.h = h;
    normalise(m, saved.x, saved.rrms, h, name("input_layernorm.weight"));
    saved.q = Values(tokens, m.num_heads * m.head_dim);
    saved.k = saved.v = Values(tokens, m.num_kv_heads * m.head_dim);
    linear(m, saved.q, saved.x, name("self_attn.q_proj"));
    linear(m, saved.k, saved.x, name("self_attn.k_proj"));
    linear(m, saved.v, saved.x, name("self_attn.v_proj"));
    for (Values* x : {&saved.q, &saved.k}) rotary(*x, m.cos, m.sin, m.head_dim, 0, false), store(m, *x);
    saved.out = Values(tokens, saved.q.columns);
    attention_forward(saved.out.values, saved.lse, saved.q.values, saved.k.values, saved.v.values,
                      problem_of(m, layer, tokens));
    store(m, saved.out);
    saved.mid = h;
    linear(m, saved.mid, saved.out, name("self_attn.o_proj"), true);

    normalise(m, saved.mlp_x, saved.mlp_rrms, saved.mid, name("post_attention_layernorm.weight"));
    saved.gate = saved.up = saved.act = Values(tokens, m.parameters.at(name("mlp.gate_proj.weight")).rows);
    linear(m, saved.gate, saved.mlp_x, name("mlp.gate_proj"));
    linear(m, saved.up, saved.mlp_x, name("mlp.up_proj"));
    swiglu_forward(saved.act, saved.gate, saved.up);
    store(m, saved.act);
    Values out = saved.mid;
    linear(m, out, saved.act, name("mlp.down_proj"), true);
    return out;
}

inline void mlp_backward(const PlainModel& m, std::int64_t layer, Values& d_h, const PlainLayer& saved,
                         Parameters& gradients) {
    const auto name = [&](const char* part) { return layer_name(layer, part); };
    Values d_act = saved.act, d_gate = saved.gate, d_up = saved.up, d_x(d_h.rows, d_h.columns);
    linear_backward(m, d_act, d_h, saved.act, name("mlp.down_proj"), gradients);
    swiglu_backward(d_gate, d_up, d_act, saved.gate, saved.up);
    store(m, d_gate), store(m, d_up);
    linear_backward(m, d_x, d_gate, saved.mlp_x, name("mlp.gate_proj"), gradients);
    linear_backward(m, d_x, d_up, saved.mlp_x, name("mlp.up_proj"), gradients, true);
    normalise_backward(m, d_h, d_x, saved.mid, saved.mlp_rrms, name("post_attention_layernorm.weight"), gradients);
}

inline void attention_block_backward(const PlainModel& m, std::int64_t layer, Values& d_h, const PlainLayer& saved,
                                     Parameters& gradients) {
    const auto name = [&](const char* part) { return layer_name(layer, part); };
    Values d_out = saved.out, d_q(saved.q.rows, saved.q.columns), d_k(saved.k.rows, saved.k.columns), d_v = d_k,
           d_x(d_h.rows, d_h.columns);
    linear_backward(m, d_out, d_h, saved.out, name("self_attn.o_proj"), gradients);
    attention_backward(d_q.values, d_k.values, d_v.values, d_out.values, saved.out.values, saved.lse, saved.q.values,
                       saved.k.values, saved.v.values, problem_of(m, layer, d_h.rows));
    rotary(d_q, m.cos, m.sin, m.head_dim, 0, true);
    rotary(d_k, m.cos, m.sin, m.head_dim, 0, true);
    for (Values* d : {&d_q, &d_k, &d_v}) store(m, *d);
    linear_backward(m, d_x, d_q, saved.x, name("self_attn.q_proj"), gradients);
    linear_backward(m, d_x, d_k, saved.x, name("self_attn.k_proj"), gradients, true);
    linear_backward(m, d_x, d_v, saved.x, name("self_attn.v_proj"), gradients, true);
    normalise_backward(m, d_h, d_x, saved.h, saved.rrms, name("input_layernorm.weight"), gradients);
}

}  // namespace plain

/// Logits are not rounded, because implementations keep them in float32.
inline PlainForward forward(const PlainModel& m, const Ids& ids, const Ids& labels) {
    PlainForward f;
    const Values& table = m.parameters.at("model.embed_tokens.weight");
    Values h(static_cast<std::int64_t>(ids.size()), table.columns);
    embedding_forward(h, table, ids);
    f.layers.resize(static_cast<std::size_t>(m.num_layers));
    for (std::int64_t layer = 0; layer < m.num_layers; ++layer)
        h = plain::layer_forward(m, layer, h, f.layers[static_cast<std::size_t>(layer)]);
    plain::normalise(m, f.x, f.rrms, h, "model.norm.weight");
    f.h = std::move(h);
    f.logits = Values(f.x.rows, table.rows);
    matmul(f.logits, f.x, m.head(), false, true, 1.0, 0.0);
    Values copy = f.logits;
    cross_entropy(f.loss_sum, copy, labels, 1.0, false);
    return f;
}

/// Gradients of scale * loss_sum with respect to every parameter.
inline Parameters backward(const PlainModel& m, const PlainForward& f, const Ids& ids, const Ids& labels,
                           double scale) {
    Parameters gradients;
    for (const auto& [name, values] : m.parameters) gradients[name] = Values(values.rows, values.columns);
    Values d_logits = f.logits, d_x(f.x.rows, f.x.columns), d_h(f.h.rows, f.h.columns);
    double unused = 0;
    cross_entropy(unused, d_logits, labels, scale, true);
    plain::store(m, d_logits);
    plain::multiply(m, d_x, d_logits, m.head(), false);
    matmul(gradients.at(m.tied ? "model.embed_tokens.weight" : "lm_head.weight"), d_logits, f.x, true, false, 1.0, 1.0);
    plain::normalise_backward(m, d_h, d_x, f.h, f.rrms, "model.norm.weight", gradients);
    for (std::int64_t layer = m.num_layers - 1; layer >= 0; --layer) {
        plain::mlp_backward(m, layer, d_h, f.layers[static_cast<std::size_t>(layer)], gradients);
        plain::attention_block_backward(m, layer, d_h, f.layers[static_cast<std::size_t>(layer)], gradients);
    }
    embedding_backward(gradients.at("model.embed_tokens.weight"), d_h, ids);
    return gradients;
}

}  // namespace longlora::reference
