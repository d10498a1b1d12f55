// Ops is the contract of what a device computes. The comment of each operation says its formula, the shapes, which
// tensors may alias, and whether the operation overwrites an output or adds to it. The functions of Ops check shapes,
// types and aliasing, record FLOPs and bytes, and call the backend (kernels/cpu or kernels/cuda). A failed check
// throws std::logic_error. Memory, streams and copies are in kernels/device.h.
//
// All operations are deterministic: the same device, inputs, instruction set and number of threads give the same
// bits. Sums within an operation are in float32 or float64. An operation is queued on the stream of its Ops.
//
// Shapes: T tokens, D hidden, F intermediate, V vocabulary, H heads, K key/value heads, E head_dim, N context length.
// "real" means float32 or bfloat16. Arguments come in the order outputs, inputs, scalars.
//
// Aliasing: outputs never share memory with each other. An output shares memory with an input only where the comment
// says that it may be this input; then both are the very same view.
//
// What an operation reads is a ConstTensor and what it writes is a Tensor, so the compiler refuses an input in place
// of an output. Tensors that a caller could confuse are fields of a struct, and the call names them:
//     ops.swiglu_forward(out, {.gate = gate, .up = up});
// The other tensors are passed by position. If a caller swaps two of these, a check finds a wrong type or a wrong
// number of dimensions:
//     embedding_*        ids are int32, the other input is real
//     rmsnorm_forward    y and x are matrices, rrms and weight are vectors
//     cross_entropy      loss_sum is a float64 scalar, logits are a real matrix
// matmul, add and copy read like their formulas: out = a b, y += x, y = x.
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "kernels/windows.h"

namespace longlora {

class Device;
class OpsBackend;

enum class Transpose : bool { no, yes };

struct AdamwOptions {
    double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
    std::int64_t step = 1;  ///< counts from 1, for the bias corrections
};

/// Where the rows of q, and of k and v, lie in the whole sequence.
struct AttentionPlace {
    std::int64_t head_dim = 0;
    std::int64_t query_begin = 0;  ///< token of the sequence at row 0 of q
    std::int64_t key_begin = 0;    ///< token of the sequence at row 0 of k and v
    float scale = 1;               ///< scores are scale * q.k
};

/// What attention reads: q is (T,H*E), k and v are (S,K*E) for S keys. All are real and of one type. Rows may be
/// strided.
struct AttentionInputs {
    ConstTensor q, k, v;
};
/// A result of attention over all keys or over some of them, as an input. out is (T,H*E) real. lse is (H,T) float32:
/// the logarithm of the sum of exp(score) over these keys.
struct ConstAttentionResult {
    ConstTensor out, lse;
};
/// The same as an output.
struct AttentionResult {
    Tensor out, lse;
    operator ConstAttentionResult() const { return {.out = out, .lse = lse}; }
};
/// What attention_backward reads: the inputs of attention_forward, its result over all keys (all pieces merged), and
/// d_out, the gradient of out.
struct AttentionBackwardInputs {
    ConstTensor q, k, v, d_out, out, lse;
    AttentionInputs inputs() const { return {.q = q, .k = k, .v = v}; }
    ConstAttentionResult result() const { return {.out = out, .lse = lse}; }
};
/// What attention_backward adds to: d_q is (T,H*E), d_k and d_v are (S,K*E). They are float32, or they have the type
/// of q if all keys come in one piece.
struct AttentionGradients {
    Tensor d_q, d_k, d_v;
};

/// What rmsnorm_backward reads: d_y and x are (T,D) real, weight is (D) real, and rrms is (T) float32 from
/// rmsnorm_forward.
struct RmsnormBackwardInputs {
    ConstTensor d_y, x, weight, rrms;
};
/// What rmsnorm_backward adds to: d_x is (T,D) real, d_weight is (D) float32. If d_weight is empty, it is not
/// computed.
struct RmsnormGradients {
    Tensor d_x, d_weight;
};

/// cos and sin of the angle of every position and pair: (positions, E/2) float32.
struct RotaryAngles {
    ConstTensor cos, sin;
};

/// The two projections of the MLP: (T,F) real. All tensors of the two swiglu operations have one type and shape.
struct SwigluInputs {
    ConstTensor gate, up;
};
struct SwigluBackwardInputs {
    ConstTensor d_out, gate, up;
};
struct SwigluGradients {
    Tensor d_gate, d_up;
};

/// What clip_scale reads: the squared norm of the gradient, and the loss. Both are float64 scalars.
struct ClipInputs {
    ConstTensor sum_squares, loss_sum;
};

/// What adamw changes: master and the moments m and v are (n) float32. weight is (n) real and receives the rounded
/// master; if it is empty, adamw skips it.
struct AdamwState {
    Tensor master, m, v, weight{};
};
/// What adamw reads: grad is (n) float32, scale is the float32 scalar that multiplies it.
struct AdamwInputs {
    ConstTensor grad, scale;
};

class Ops {
public:
    Ops(Device& device, OpsBackend* backend, int stream) : device_(device), backend_(backend), stream_(stream) {}

    /// out = alpha * op(a) op(b) + beta * out, where op(x) is x or its transpose.
    /// out is (M,N), op(a) is (M,K), op(b) is (K,N). All are real, in any mix of types, and their rows may be
    /// strided. If beta is 0, the operation overwrites out, also NaNs in it; otherwise it adds to beta * out. Sums
    /// are in float32, and a bfloat16 out is rounded once. A bfloat16 operand beside a float32 one is widened panel
    /// by panel.
    void matmul(Tensor out, ConstTensor a, ConstTensor b, Transpose transpose_a, Transpose transpose_b, float alpha = 1,
                float beta = 0);

    /// out[t] = table[ids[t]].
    /// out is (T,D) real, table is (V,D) real, ids is (T) int32. Overwrites out. The caller guarantees ids in [0, V);
    /// the device does not check them.
    void embedding_forward(Tensor out, ConstTensor table, ConstTensor ids);
    /// d_table[ids[t]] += d_out[t].
    /// d_table is (V,D) float32, d_out is (T,D) real, ids is (T) int32 in [0, V). Adds to d_table. Every row of
    /// d_table receives its tokens in the order of t.
    void embedding_backward(Tensor d_table, ConstTensor d_out, ConstTensor ids);

    /// y = x * rrms * weight, with rrms[t] = 1 / sqrt(mean_d x[t,d]^2 + eps).
    /// y and x are (T,D) and weight is (D), all real, in any mix of types. rrms is (T) float32. Overwrites y and
    /// rrms. y may be x. The mean is in float32.
    void rmsnorm_forward(Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps);
    /// d_x += (dy/dx)^T d_y = rrms * (weight * d_y - x * rrms^2 * mean_d(weight * d_y * x)),
    /// d_weight += sum_t d_y * x * rrms.
    /// Adds to d_x and d_weight. No output may be an input; in particular d_x may not be d_y.
    void rmsnorm_backward(const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs);

    /// Turns each pair (i, i + E/2) of each head of x by the angle of its position, in the half-split layout of
    /// Hugging Face:
    ///     (a, b) becomes (a c - b s, b c + a s), with c = cos[p, i], s = sin[p, i], p = position_begin + row.
    /// x is (T, heads * E) real and is changed in place. inverse negates s, which gives the transposed operation that
    /// backward needs.
    void rotary(Tensor x, const RotaryAngles& angles, std::int64_t head_dim, std::int64_t position_begin, bool inverse);

    /// Attention of one sequence, or of a part of its queries over a part of its keys:
    ///     out[t,h] = sum_j p[t,h,j] v[j,g],    p[t,h,:] = softmax over the visible keys j of scale * q[t,h] . k[j,g].
    /// Query head h uses the key/value head g = h / (H/K), rounded down. windows says which keys are visible; it
    /// counts tokens of the whole sequence, which are query_begin + row of q and key_begin + row of k. out has the
    /// type of q or is float32. Rows may be strided.
    /// Without accumulate the operation overwrites out and lse. A query that sees no key gets out 0 and lse -inf.
    /// With accumulate it merges its result with the earlier one over other keys that is in out and lse. So keys may
    /// come in pieces, in any order. out must be float32. A query that sees no key keeps its earlier result.
    void attention_forward(const AttentionResult& result, const AttentionInputs& inputs, const Windows& windows,
                           const AttentionPlace& place, bool accumulate);
    /// d_q, d_k, d_v += the gradients of the loss with respect to q, k and v.
    /// Adds to all three. If keys come in pieces, call it once per piece, each time with the out and lse of all keys.
    void attention_backward(const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                            const Windows& windows, const AttentionPlace& place);
    /// Merges two results of the same queries over different keys into the first one. For every query t and head h,
    /// with a = lse[h,t] and b = other.lse[h,t]:
    ///     lse = m = log(exp(a) + exp(b)),    out[t,h] = exp(a - m) * out[t,h] + exp(b - m) * other.out[t,h].
    /// Changes result in place; other must lie in other memory. If b is -inf (other saw no key), nothing changes; if
    /// only a is -inf, out and lse become those of other. All tensors are float32, and rows may be strided. E follows
    /// from the shapes.
    void merge_attention(const AttentionResult& result, const ConstAttentionResult& other);

    /// out = silu(gate) * up, with silu(x) = x / (1 + exp(-x)).
    /// Overwrites out. out may be gate or up.
    void swiglu_forward(Tensor out, const SwigluInputs& inputs);
    /// d_gate = d_out * up * silu'(gate), d_up = d_out * silu(gate).
    /// Overwrites d_gate and d_up. d_gate may be gate; d_up may be up or d_out.
    void swiglu_backward(const SwigluGradients& gradients, const SwigluBackwardInputs& inputs);

    /// loss_sum += sum over the counted rows t of (log sum_v exp(logits[t,v]) - logits[t,labels[t]]).
    /// loss_sum is a float64 scalar, logits is (T,V) real, labels is (T) int32 in [0, V), or -1 for a row that does
    /// not count. Adds to loss_sum, in float64; exponentials are in float32. If gradient is true, the operation also
    /// overwrites logits: a row that counts becomes scale * (softmax(row) - onehot(label)), the others become 0.
    /// Otherwise logits stay as they are.
    void cross_entropy(Tensor loss_sum, Tensor logits, ConstTensor labels, float scale, bool gradient);

    /// sum += sum_i x_i^2.
    /// sum is a float64 scalar, x is real of any shape. Adds to sum, in float64.
    void sum_squares(Tensor sum, ConstTensor x);
    /// scale = min(1, max_norm / (sqrt(sum_squares) + 1e-6)), or 1 if max_norm <= 0.
    /// scale is a float32 scalar. Overwrites it, with NaN if sum_squares or loss_sum is not finite.
    void clip_scale(Tensor scale, const ClipInputs& inputs, double max_norm);
    /// One step of AdamW (Loshchilov, Hutter 2019), in the order of PyTorch:
    ///     g = scale * grad
    ///     m = beta1 * m + (1 - beta1) * g,    m_hat = m / (1 - beta1^step)
    ///     v = beta2 * v + (1 - beta2) * g^2,    v_hat = v / (1 - beta2^step)
    ///     master = (1 - lr * weight_decay) * master - lr * m_hat / (sqrt(v_hat) + eps)
    ///     weight = master, rounded
    /// Updates the state in place. If scale is NaN, nothing changes.
    void adamw(const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options);

    /// x = value. Overwrites x, which is real, float64 or int32.
    void fill(Tensor x, float value);
    /// y += alpha * x. Adds to y. Both have one shape. They are real, in any mix, or float64 scalars.
    void add(Tensor y, ConstTensor x, float alpha = 1);
    /// y = x, converted to the type of y. Overwrites y. Both have one shape. They are real, in any mix, or have the
    /// same type.
    void copy(Tensor y, ConstTensor x);

private:
    template <class Call> void run(const char* name, double flops, double bytes, Call&& call);
    Device& device_;
    OpsBackend* backend_;
    int stream_;
};

/// What a backend implements. Ops has checked the arguments. Names and meanings are those of Ops.
class OpsBackend {
public:
    virtual ~OpsBackend() = default;
    virtual void matmul(int stream, Tensor out, ConstTensor a, ConstTensor b, Transpose transpose_a,
                        Transpose transpose_b, float alpha, float beta) = 0;
    virtual void embedding_forward(int stream, Tensor out, ConstTensor table, ConstTensor ids) = 0;
    virtual void embedding_backward(int stream, Tensor d_table, ConstTensor d_out, ConstTensor ids) = 0;
    virtual void rmsnorm_forward(int stream, Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps) = 0;
    virtual void rmsnorm_backward(int stream, const RmsnormGradients& gradients,
                                  const RmsnormBackwardInputs& inputs) = 0;
    virtual void rotary(int stream, Tensor x, const RotaryAngles& angles, std::int64_t head_dim,
                        std::int64_t position_begin, bool inverse) = 0;
    virtual void attention_forward(int stream, const AttentionResult& result, const AttentionInputs& inputs,
                                   const Windows& windows, const AttentionPlace& place, bool accumulate) = 0;
    /// delta (H,T) float32 is workspace for delta[h,t] = sum_e d_out[t,h,e] * out[t,h,e].
    virtual void attention_backward(int stream, const AttentionGradients& gradients,
                                    const AttentionBackwardInputs& inputs, const Windows& windows,
                                    const AttentionPlace& place, Tensor delta) = 0;
    virtual void merge_attention(int stream, const AttentionResult& result, const ConstAttentionResult& other) = 0;
    virtual void swiglu_forward(int stream, Tensor out, const SwigluInputs& inputs) = 0;
    virtual void swiglu_backward(int stream, const SwigluGradients& gradients, const SwigluBackwardInputs& inputs) = 0;
    virtual void cross_entropy(int stream, Tensor loss_sum, Tensor logits, ConstTensor labels, float scale,
                               bool gradient) = 0;
    virtual void sum_squares(int stream, Tensor sum, ConstTensor x) = 0;
    virtual void clip_scale(int stream, Tensor scale, const ClipInputs& inputs, double max_norm) = 0;
    virtual void adamw(int stream, const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options) = 0;
    virtual void fill(int stream, Tensor x, float value) = 0;
    virtual void add(int stream, Tensor y, ConstTensor x, float alpha) = 0;
    virtual void copy(int stream, Tensor y, ConstTensor x) = 0;
    virtual void synchronize(int stream) = 0;  ///< Ops waits for the stream when Recorder::time is set
};

}  // namespace longlora
