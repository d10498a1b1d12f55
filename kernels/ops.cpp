// The checks of ops.h, once for all devices: each operation checks shapes, types and aliasing, records FLOPs and
// bytes, and calls the backend (the plan device has none). cpu/ and cuda/ have the arithmetic. A failed check is a
// mistake of this program, so ensure() throws std::logic_error.
#include "kernels/ops.h"

#include <type_traits>
#include <utility>

#include "core/clock.h"
#include "kernels/device.h"

namespace longlora {
namespace {

std::string describe(const ConstTensor& t) {
    const std::string stride = t.contiguous() ? "" : text("/", t.row_stride);
    return text(" ", name_of(t.dtype), to_text(t.shape), stride, t.bytes ? "" : " (null)");
}

/// Throws "internal: OP: WHAT: TYPE(SHAPE) ..." with the tensors in the order given. A row stride comes after a
/// slash.
template <class... Tensors> void check(bool ok, const char* op, const char* what, const Tensors&... tensors) {
    if (ok) return;
    ensure(false, text(op, ": ", what, ":", describe(tensors)...).c_str());
}

bool real(const ConstTensor& t) { return t.dtype == DType::float32 || t.dtype == DType::bfloat16; }
bool matrix(const ConstTensor& t, std::int64_t rows, std::int64_t columns) { return t.shape == Shape{rows, columns}; }
bool vector(const ConstTensor& t, std::int64_t n) { return t.shape == Shape{n} && t.contiguous(); }
bool scalar(const ConstTensor& t, DType dtype) { return t.dtype == dtype && t.count() == 1 && t.bytes; }
double bytes_of(const ConstTensor& t) { return static_cast<double>(t.size_bytes()); }
double count_of(const ConstTensor& t) { return static_cast<double>(t.count()); }

bool well_formed(const ConstTensor& t) {
    return t.count() == 0 || (t.bytes && (t.num_rows() <= 1 || t.row_stride >= t.width()));
}

/// Whether two views share bytes. Two ranges of columns of one matrix lie between each other's rows without sharing
/// bytes.
bool share(const ConstTensor& a, const ConstTensor& b) {
    if (!overlap(a, b)) return false;
    const std::int64_t stride = a.row_stride * size_of(a.dtype);
    if (stride != b.row_stride * size_of(b.dtype) || a.num_rows() <= 1 || b.num_rows() <= 1) return true;
    const std::int64_t offset = ((b.bytes - a.bytes) % stride + stride) % stride;
    return offset < a.width() * size_of(a.dtype) || offset + b.width() * size_of(b.dtype) > stride;
}

bool same_view(const ConstTensor& a, const ConstTensor& b) {
    return a.bytes == b.bytes && a.dtype == b.dtype && a.shape == b.shape &&
           (a.row_stride == b.row_stride || a.num_rows() <= 1);
}

/// Checks that outputs share no bytes with each other or with an input, and that all tensors are well formed.
template <class... Inputs>
void check_apart(const char* op, std::initializer_list<Tensor> outputs, const Inputs&... inputs) {
    for (const Tensor* out = outputs.begin(); out != outputs.end(); ++out) {
        check(well_formed(*out), op, "an output has no memory, or its rows overlap", *out);
        for (const Tensor* other = out + 1; other != outputs.end(); ++other)
            check(!share(*out, *other), op, "two outputs share memory", *out, *other);
        (check(!share(*out, inputs), op, "an output shares memory with an input", *out, inputs), ...);
    }
    (check(well_formed(inputs), op, "an input has no memory, or its rows overlap", inputs), ...);
}

/// Like check_apart for one output and one input, but they may be the very same view.
void check_apart_or_same(const char* op, const Tensor& out, const ConstTensor& input) {
    check(same_view(out, input) || !share(out, input), op, "an output overlaps an input but is another view", out,
          input);
}

struct AttentionSizes {
    std::int64_t num_queries, num_keys, num_heads, num_kv_heads;
    double pairs;  // visible (query, key) pairs, all heads
};

AttentionSizes check_attention(const char* op, const ConstAttentionResult& result, const AttentionInputs& inputs,
                               const Windows& windows, const AttentionPlace& place) {
    const auto& [out, lse] = result;
    const auto& [q, k, v] = inputs;
    const std::int64_t e = place.head_dim;
    check(e > 0 && q.shape.rank == 2 && k.shape.rank == 2 && q.width() % e == 0 && k.width() % e == 0, op,
          "q and k must be (tokens, heads * head_dim)", q, k);
    const AttentionSizes s{q.shape[0], k.shape[0], q.width() / e, k.width() / e, 0};
    check(s.num_heads > 0 && s.num_kv_heads > 0 && s.num_heads % s.num_kv_heads == 0, op,
          "the query heads must be a multiple of the key/value heads", q, k);
    check(v.shape == k.shape && out.shape == q.shape, op, "v must have the shape of k, out that of q", out, q, k, v);
    check(lse.dtype == DType::float32 && matrix(lse, s.num_heads, s.num_queries), op,
          "lse must be float32 (heads, queries)", lse, q);
    check(real(q) && k.dtype == q.dtype && v.dtype == q.dtype && (out.dtype == q.dtype || out.dtype == DType::float32),
          op, "q, k and v must have one type, out this type or float32", out, q, k, v);
    const std::int64_t n = windows.num_tokens();
    check(windows.first_key.dtype == DType::int32 && matrix(windows.first_key, 2, n) &&
              windows.first_key.contiguous() && well_formed(windows.first_key) &&
              windows.host[1].size() == windows.host[0].size(),
          op, "first_key must be int32 (2, N), its host rows N long", windows.first_key);
    check(place.query_begin >= 0 && place.key_begin >= 0 && place.query_begin + s.num_queries <= n &&
              place.key_begin + s.num_keys <= n,
          op, "queries and keys must be tokens of the windows", q, k, windows.first_key);
    const std::int64_t num_plain = windows.num_plain_heads;
    check(num_plain >= 0 && num_plain <= s.num_heads, op, "there are more plain heads than heads", q);
    AttentionSizes sizes = s;
    const auto pairs = [&](HeadKind kind) {
        return static_cast<double>(
            visible_pairs(windows, kind, place.query_begin, s.num_queries, place.key_begin, s.num_keys));
    };
    if (num_plain > 0) sizes.pairs += static_cast<double>(num_plain) * pairs(HeadKind::plain);
    if (num_plain < s.num_heads) sizes.pairs += static_cast<double>(s.num_heads - num_plain) * pairs(HeadKind::shifted);
    return sizes;
}

}  // namespace

template <class Call> void Ops::run(const char* name, double flops, double bytes, Call&& call) {
    Recorder& recorder = device_.recorder();
    recorder.add(name, flops, bytes);
    if (!backend_) return;
    if (!recorder.time) return call(*backend_);
    const double begin = now_seconds();
    call(*backend_);
    backend_->synchronize(stream_);
    recorder.by_operation[name].seconds += now_seconds() - begin;
}

void Ops::matmul(Tensor out, ConstTensor a, ConstTensor b, Transpose transpose_a, Transpose transpose_b, float alpha,
                 float beta) {
    const char* op = "matmul";
    check(out.shape.rank == 2 && a.shape.rank == 2 && b.shape.rank == 2, op, "matrices only", out, a, b);
    check(real(out) && real(a) && real(b), op, "float32 or bfloat16 only", out, a, b);
    const bool ta = transpose_a == Transpose::yes, tb = transpose_b == Transpose::yes;
    const std::int64_t k = a.shape[ta ? 0 : 1];
    check(out.shape[0] == a.shape[ta ? 1 : 0] && out.shape[1] == b.shape[tb ? 0 : 1] && k == b.shape[tb ? 1 : 0], op,
          "shapes do not fit together", out, a, b);
    check_apart(op, {out}, a, b);
    const double bytes = bytes_of(a) + bytes_of(b) + bytes_of(out) * (beta == 0 ? 1 : 2);
    run(op, 2 * count_of(out) * static_cast<double>(k), bytes,
        [&](OpsBackend& backend) { backend.matmul(stream_, out, a, b, transpose_a, transpose_b, alpha, beta); });
}

void Ops::embedding_forward(Tensor out, ConstTensor table, ConstTensor ids) {
    const char* op = "embedding_forward";
    check(real(out) && real(table) && ids.dtype == DType::int32 && table.shape.rank == 2, op,
          "out and table float32 or bfloat16, ids int32", out, table, ids);
    check(vector(ids, ids.count()) && matrix(out, ids.count(), table.width()), op,
          "out must be (tokens, width of table)", out, table, ids);
    check_apart(op, {out}, table, ids);
    run(op, 0, 2 * bytes_of(out) + bytes_of(ids),
        [&](OpsBackend& backend) { backend.embedding_forward(stream_, out, table, ids); });
}

void Ops::embedding_backward(Tensor d_table, ConstTensor d_out, ConstTensor ids) {
    const char* op = "embedding_backward";
    check(d_table.dtype == DType::float32 && real(d_out) && ids.dtype == DType::int32 && d_table.shape.rank == 2, op,
          "d_table float32, ids int32", d_table, d_out, ids);
    check(vector(ids, ids.count()) && matrix(d_out, ids.count(), d_table.width()), op,
          "d_out must be (tokens, width of table)", d_table, d_out, ids);
    check_apart(op, {d_table}, d_out, ids);
    run(op, count_of(d_out), bytes_of(d_out) + 8 * count_of(d_out) + bytes_of(ids),
        [&](OpsBackend& backend) { backend.embedding_backward(stream_, d_table, d_out, ids); });
}

void Ops::rmsnorm_forward(Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps) {
    const char* op = "rmsnorm_forward";
    check(real(y) && real(x) && real(weight) && rrms.dtype == DType::float32, op,
          "y, x, weight float32 or bfloat16, rrms float32", y, rrms, x, weight);
    check(x.shape.rank == 2 && y.shape == x.shape && vector(weight, x.width()) && vector(rrms, x.shape[0]), op,
          "y and x (T,D), rrms (T), weight (D)", y, rrms, x, weight);
    check_apart(op, {y, rrms}, weight);
    check_apart(op, {rrms}, x);
    check_apart_or_same(op, y, x);
    run(op, 4 * count_of(x), bytes_of(y) + bytes_of(x) + bytes_of(weight) + bytes_of(rrms),
        [&](OpsBackend& backend) { backend.rmsnorm_forward(stream_, y, rrms, x, weight, eps); });
}

void Ops::rmsnorm_backward(const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs) {
    const char* op = "rmsnorm_backward";
    const auto& [d_x, d_weight] = gradients;
    const auto& [d_y, x, weight, rrms] = inputs;
    check(real(d_x) && real(d_y) && real(x) && real(weight) && rrms.dtype == DType::float32, op,
          "float32 or bfloat16, rrms float32", d_x, d_y, x, weight, rrms);
    check(x.shape.rank == 2 && d_x.shape == x.shape && d_y.shape == x.shape && vector(weight, x.width()) &&
              vector(rrms, x.shape[0]),
          op, "d_x, d_y and x (T,D), weight (D), rrms (T)", d_x, d_y, x, weight, rrms);
    check(!d_weight || (d_weight.dtype == DType::float32 && vector(d_weight, x.width())), op, "d_weight is float32 (D)",
          d_weight, x);
    check_apart(op, {d_x}, d_y, x, weight, rrms);
    if (d_weight) check_apart(op, {d_x, d_weight}, d_y, x, weight, rrms);
    run(op, (d_weight ? 10 : 7) * count_of(x),
        2 * bytes_of(d_x) + bytes_of(d_y) + bytes_of(x) + bytes_of(weight) + bytes_of(rrms) +
            (d_weight ? 2 * bytes_of(d_weight) : 0),
        [&](OpsBackend& backend) { backend.rmsnorm_backward(stream_, gradients, inputs); });
}

void Ops::rotary(Tensor x, const RotaryAngles& angles, std::int64_t head_dim, std::int64_t position_begin,
                 bool inverse) {
    const char* op = "rotary";
    const auto& [cos, sin] = angles;
    check(real(x) && x.shape.rank == 2 && head_dim > 0 && head_dim % 2 == 0 && x.width() % head_dim == 0, op,
          "x must be (tokens, heads * even head_dim)", x);
    check(cos.dtype == DType::float32 && sin.dtype == DType::float32 && cos.shape.rank == 2 && cos.shape == sin.shape &&
              cos.width() == head_dim / 2 && cos.contiguous() && sin.contiguous(),
          op, "cos and sin must be float32 (positions, head_dim / 2)", cos, sin);
    check(position_begin >= 0 && position_begin + x.shape[0] <= cos.shape[0], op, "positions lie beyond the tables", x,
          cos);
    check_apart(op, {x}, cos, sin);
    run(op, 3 * count_of(x), 2 * bytes_of(x) + 4.0 * static_cast<double>(x.shape[0] * head_dim),
        [&](OpsBackend& backend) { backend.rotary(stream_, x, angles, head_dim, position_begin, inverse); });
}

void Ops::attention_forward(const AttentionResult& result, const AttentionInputs& inputs, const Windows& windows,
                            const AttentionPlace& place, bool accumulate) {
    const char* op = "attention_forward";
    const AttentionSizes sizes = check_attention(op, result, inputs, windows, place);
    const auto& [out, lse] = result;
    const auto& [q, k, v] = inputs;
    check(!accumulate || out.dtype == DType::float32, op, "out must be float32 to accumulate", out);
    check_apart(op, {out, lse}, q, k, v, windows.first_key);
    const double bytes =
        (accumulate ? 2 : 1) * (bytes_of(out) + bytes_of(lse)) + bytes_of(q) + bytes_of(k) + bytes_of(v);
    run(op, 4 * static_cast<double>(place.head_dim) * sizes.pairs, bytes,
        [&](OpsBackend& backend) { backend.attention_forward(stream_, result, inputs, windows, place, accumulate); });
}

void Ops::attention_backward(const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                             const Windows& windows, const AttentionPlace& place) {
    const char* op = "attention_backward";
    const AttentionSizes sizes = check_attention(op, inputs.result(), inputs.inputs(), windows, place);
    const auto& [d_q, d_k, d_v] = gradients;
    const auto& [q, k, v, d_out, out, lse] = inputs;
    check(d_q.shape == q.shape && d_k.shape == k.shape && d_v.shape == v.shape && d_out.shape == out.shape, op,
          "a gradient must have the shape of its tensor", d_q, d_k, d_v, d_out);
    check(d_q.dtype == d_k.dtype && d_q.dtype == d_v.dtype && (d_q.dtype == q.dtype || d_q.dtype == DType::float32), op,
          "d_q, d_k, d_v must be float32 or of the type of q", d_q, d_k, d_v, q);
    check(d_out.dtype == q.dtype || d_out.dtype == DType::float32, op, "d_out must be float32 or of the type of q",
          d_out, q);
    check_apart(op, {d_q, d_k, d_v}, d_out, out, lse, q, k, v, windows.first_key);
    const ArenaTensor delta =
        device_.memory().tensor(DType::float32, {sizes.num_heads, sizes.num_queries}, Use::workspace);
    const double bytes = 2 * (bytes_of(d_q) + bytes_of(d_k) + bytes_of(d_v)) + bytes_of(d_out) + bytes_of(out) +
                         bytes_of(lse) + bytes_of(q) + bytes_of(k) + bytes_of(v);
    run(op, 10 * static_cast<double>(place.head_dim) * sizes.pairs, bytes,
        [&](OpsBackend& backend) { backend.attention_backward(stream_, gradients, inputs, windows, place, delta); });
}

void Ops::merge_attention(const AttentionResult& result, const ConstAttentionResult& other) {
    const char* op = "merge_attention";
    const auto& [out, lse] = result;
    const auto& [other_out, other_lse] = other;
    for (const ConstTensor& t : std::initializer_list<ConstTensor>{out, lse, other_out, other_lse})
        check(t.dtype == DType::float32 && t.shape.rank == 2, op, "float32 matrices only", out, lse, other_out,
              other_lse);
    const std::int64_t heads = lse.shape[0];
    check(lse.shape[1] == out.shape[0] && heads > 0 && out.width() % heads == 0, op,
          "out must be (queries, heads * head_dim), lse (heads, queries)", out, lse);
    check(other_out.shape == out.shape && other_lse.shape == lse.shape, op, "both results must have one shape", out,
          lse, other_out, other_lse);
    check_apart(op, {out, lse}, other_out, other_lse);
    run(op, 3 * count_of(out), 3 * (bytes_of(out) + bytes_of(lse)),
        [&](OpsBackend& backend) { backend.merge_attention(stream_, result, other); });
}

void Ops::swiglu_forward(Tensor out, const SwigluInputs& inputs) {
    const char* op = "swiglu_forward";
    const auto& [gate, up] = inputs;
    check(real(out) && out.dtype == gate.dtype && out.dtype == up.dtype && out.shape == gate.shape &&
              out.shape == up.shape,
          op, "all tensors must have one type and shape", out, gate, up);
    check_apart(op, {out});
    check(well_formed(gate) && well_formed(up), op, "an input has no memory", gate, up);
    check_apart_or_same(op, out, gate);
    check_apart_or_same(op, out, up);
    run(op, 6 * count_of(out), 3 * bytes_of(out),
        [&](OpsBackend& backend) { backend.swiglu_forward(stream_, out, inputs); });
}

void Ops::swiglu_backward(const SwigluGradients& gradients, const SwigluBackwardInputs& inputs) {
    const char* op = "swiglu_backward";
    const auto& [d_gate, d_up] = gradients;
    const auto& [d_out, gate, up] = inputs;
    check(real(gate) && d_gate.dtype == gate.dtype && d_up.dtype == gate.dtype && d_out.dtype == gate.dtype &&
              up.dtype == gate.dtype,
          op, "all tensors must have one type", d_gate, d_up, d_out, gate, up);
    check(d_gate.shape == gate.shape && d_up.shape == gate.shape && d_out.shape == gate.shape && up.shape == gate.shape,
          op, "all tensors must have one shape", d_gate, d_up, d_out, gate, up);
    check(well_formed(d_out) && well_formed(gate) && well_formed(up), op, "an input has no memory", d_out, gate, up);
    check_apart(op, {d_gate, d_up});
    check_apart(op, {d_gate}, d_out, up);
    check_apart(op, {d_up}, gate);
    check_apart_or_same(op, d_gate, gate);
    check_apart_or_same(op, d_up, up);
    check_apart_or_same(op, d_up, d_out);
    run(op, 12 * count_of(gate), 5 * bytes_of(gate),
        [&](OpsBackend& backend) { backend.swiglu_backward(stream_, gradients, inputs); });
}

void Ops::cross_entropy(Tensor loss_sum, Tensor logits, ConstTensor labels, float scale, bool gradient) {
    const char* op = "cross_entropy";
    check(scalar(loss_sum, DType::float64) && real(logits) && logits.shape.rank == 2 && labels.dtype == DType::int32 &&
              vector(labels, logits.shape[0]),
          op, "loss_sum a float64 scalar, logits (T,V), labels int32 (T)", loss_sum, logits, labels);
    check_apart(op, {loss_sum, logits}, labels);
    run(op, (gradient ? 6 : 4) * count_of(logits), (gradient ? 2 : 1) * bytes_of(logits) + bytes_of(labels),
        [&](OpsBackend& backend) { backend.cross_entropy(stream_, loss_sum, logits, labels, scale, gradient); });
}

void Ops::sum_squares(Tensor sum, ConstTensor x) {
    const char* op = "sum_squares";
    check(scalar(sum, DType::float64) && real(x), op, "sum a float64 scalar, x float32 or bfloat16", sum, x);
    check_apart(op, {sum}, x);
    run(op, 2 * count_of(x), bytes_of(x), [&](OpsBackend& backend) { backend.sum_squares(stream_, sum, x); });
}

void Ops::clip_scale(Tensor scale, const ClipInputs& inputs, double max_norm) {
    const char* op = "clip_scale";
    const auto& [sum_squares, loss_sum] = inputs;
    check(scalar(scale, DType::float32) && scalar(sum_squares, DType::float64) && scalar(loss_sum, DType::float64), op,
          "scale a float32 scalar, sum_squares and loss_sum float64 scalars", scale, sum_squares, loss_sum);
    check_apart(op, {scale}, sum_squares, loss_sum);
    run(op, 3, 20, [&](OpsBackend& backend) { backend.clip_scale(stream_, scale, inputs, max_norm); });
}

void Ops::adamw(const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options) {
    const char* op = "adamw";
    const auto& [master, m, v, weight] = state;
    const auto& [grad, scale] = inputs;
    const std::int64_t n = master.count();
    for (const ConstTensor& t : std::initializer_list<ConstTensor>{master, m, v, grad})
        check(t.dtype == DType::float32 && t.count() == n && t.contiguous(), op,
              "master, m, v, grad must be float32 of one size", master, m, v, grad);
    check(!weight || (real(weight) && weight.count() == n && weight.contiguous()), op,
          "weight must be float32 or bfloat16 of the size of master", weight, master);
    check(scalar(scale, DType::float32) && options.step >= 1, op,
          "scale must be a float32 scalar, and steps count from 1", scale);
    if (weight) check_apart(op, {master, m, v, weight}, grad, scale);
    else check_apart(op, {master, m, v}, grad, scale);
    run(op, 14 * count_of(master), 28 * count_of(master) + (weight ? bytes_of(weight) : 0),
        [&](OpsBackend& backend) { backend.adamw(stream_, state, inputs, options); });
}

void Ops::fill(Tensor x, float value) {
    check(real(x) || x.dtype == DType::float64 || x.dtype == DType::int32, "fill",
          "float32, bfloat16, float64 or int32 only", x);
    check_apart("fill", {x});
    run("fill", 0, bytes_of(x), [&](OpsBackend& backend) { backend.fill(stream_, x, value); });
}

void Ops::add(Tensor y, ConstTensor x, float alpha) {
    const char* op = "add";
    check(y.shape == x.shape && ((real(y) && real(x)) || (scalar(y, DType::float64) && scalar(x, DType::float64))), op,
          "y and x must have one shape and be float32 or bfloat16, or float64 scalars", y, x);
    check_apart(op, {y}, x);
    run(op, 2 * count_of(y), 2 * bytes_of(y) + bytes_of(x),
        [&](OpsBackend& backend) { backend.add(stream_, y, x, alpha); });
}

void Ops::copy(Tensor y, ConstTensor x) {
    const char* op = "copy";
    check(y.shape == x.shape && ((real(y) && real(x)) || y.dtype == x.dtype), op,
          "y and x must have one shape and be float32 or bfloat16, or of one type", y, x);
    check_apart(op, {y}, x);
    run(op, 0, bytes_of(y) + bytes_of(x), [&](OpsBackend& backend) { backend.copy(stream_, y, x); });
}

}  // namespace longlora
