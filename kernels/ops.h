// Ops: THE contract of what a device computes. Each operation says its formula, shapes, what may alias, whether it
// overwrites or accumulates. The functions here check shapes, types and aliasing once, record FLOPs and bytes, then
// call the backend. All operations are deterministic: same inputs, instruction set and thread count give the same bits.
// Sums over rows are in fp32 or better.
//
// Shapes: T tokens, D hidden, F intermediate, V vocabulary, H heads, K key/value heads, E head_dim, N context length.
// Types: "real" is float32 or bfloat16. Order: outputs, inputs, scalars. Inputs never alias outputs unless said.
//
// What is only read is a ConstTensor, what is written is a Tensor, so the compiler refuses an input where an output
// belongs. Tensors that could be taken for each other are fields of a struct and named at the call:
//     ops.swiglu_forward(out, {.gate = gate, .up = up});
// The others are given by position, and it is safe: where two of them stand in each other's place, the checks find
// another type or another number of dimensions.
//     embedding_*        ids are int32, the other input is real
//     rmsnorm_forward    y and x are matrices, rrms and weight are vectors
//     cross_entropy      loss_sum is a float64 scalar, logits are a real matrix
// matmul, add and copy read as the formula: out = a b, y += x, y = x.
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
    std::int64_t step = 1;  ///< 1-based, for the bias corrections
};

/// Where the rows of q and of k/v lie in the whole sequence.
struct AttentionPlace {
    std::int64_t head_dim = 0;
    std::int64_t query_begin = 0;  ///< global token of row 0 of q
    std::int64_t key_begin = 0;    ///< global token of row 0 of k and v
    float scale = 1;               ///< scores are scale * q.k
};

/// What attention reads: q (T,H*E), k and v (S,K*E), real, of one type, rows may be strided.
struct AttentionInputs {
    ConstTensor q, k, v;
};
/// A finished result, or a partial one over some of the keys, that is read: out (T,H*E) real, lse (H,T) float32 = log
/// sum exp of the scores.
struct ConstAttentionResult {
    ConstTensor out, lse;
};
/// The same where it is written.
struct AttentionResult {
    Tensor out, lse;
    operator ConstAttentionResult() const { return {.out = out, .lse = lse}; }
};
/// What backward reads: the inputs and the whole result (all pieces merged) of forward, and the gradient of out.
struct AttentionBackwardInputs {
    ConstTensor q, k, v, d_out, out, lse;
    AttentionInputs inputs() const { return {.q = q, .k = k, .v = v}; }
    ConstAttentionResult result() const { return {.out = out, .lse = lse}; }
};
/// What backward adds to: d_q (T,H*E), d_k and d_v (S,K*E); float32, or the type of q when there is one piece only.
struct AttentionGradients {
    Tensor d_q, d_k, d_v;
};

/// What rmsnorm_backward reads: d_y and x (T,D) real, weight (D) real, rrms (T) float32 of forward.
struct RmsnormBackwardInputs {
    ConstTensor d_y, x, weight, rrms;
};
/// What it adds to: d_x (T,D) real, d_weight (D) float32; an empty d_weight is skipped.
struct RmsnormGradients {
    Tensor d_x, d_weight;
};

/// cos and sin of the angles by position and pair, (positions, E/2) float32.
struct RotaryAngles {
    ConstTensor cos, sin;
};

/// The two projections of the MLP, (T,F) real.
struct SwigluInputs {
    ConstTensor gate, up;
};
struct SwigluBackwardInputs {
    ConstTensor d_out, gate, up;
};
struct SwigluGradients {
    Tensor d_gate, d_up;
};

/// What decides the clip scale: the squared norm of the gradient and the loss, float64 scalars.
struct ClipInputs {
    ConstTensor sum_squares, loss_sum;
};

/// What the optimizer changes: master, moments m and v, (n) float32; weight (n) real gets the rounded master, an empty
/// one is skipped.
struct AdamwState {
    Tensor master, m, v, weight{};
};
/// What it reads: the gradient (n) float32, and the float32 scalar that the gradient is multiplied by.
struct AdamwInputs {
    ConstTensor grad, scale;
};

class Ops {
public:
    Ops(Device& device, OpsBackend* backend, int stream) : device_(device), backend_(backend), stream_(stream) {}

    /// out(M,N) = alpha * op(a)(M,K) op(b)(K,N) + beta * out; op transposes or not. Sums in fp32. beta == 0 overwrites
    /// (NaNs in out do not survive). out, a, b real, any mix: a bfloat16 operand beside a float32 one is widened a
    /// panel at a time. Row strides allowed.
    void matmul(Tensor out, ConstTensor a, ConstTensor b, Transpose transpose_a, Transpose transpose_b, float alpha = 1,
                float beta = 0);

    /// out[t] = table[ids[t]]. out (T,D) real, table (V,D) real, ids (T) int32 in [0, V) (not checked on the device).
    /// Overwrites.
    void embedding_forward(Tensor out, ConstTensor table, ConstTensor ids);
    /// d_table[ids[t]] += d_out[t], in the order of t. d_table (V,D) float32.
    void embedding_backward(Tensor d_table, ConstTensor d_out, ConstTensor ids);

    /// y = x * rrms * weight, rrms[t] = 1 / sqrt(mean_d x[t,d]^2 + eps). Overwrites y (T,D) and rrms (T) float32. y may
    /// be x. Statistics in fp32.
    void rmsnorm_forward(Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps);
    /// d_x += d(y)/d(x)^T d_y; d_weight += sum_t d_y * x * rrms. d_x may not be d_y.
    void rmsnorm_backward(const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs);

    /// In place on x (T, heads * E): each pair (i, i + E/2) of a head is turned by the angle of its position,
    /// (a, b) -> (a c - b s, b c + a s), c = cos[p, i], s = sin[p, i], p = position_begin + row (Hugging Face's
    /// half-split layout). inverse: s is negated, which is the backward (transposed) operation.
    void rotary(Tensor x, const RotaryAngles& angles, std::int64_t head_dim, std::int64_t position_begin, bool inverse);

    /// One sequence. out[t,h] = sum_j p[t,h,j] v[j, h/(H/K)], p = softmax over visible j of scale * q[t,h].k[j,..].
    /// All rows may be strided. Visible: windows, with t = query_begin + row, j = key_begin + row. accumulate: merges
    /// with the earlier partial result in out and lse (then out is float32): keys may arrive in pieces in any order. A
    /// query without visible key gets out 0, lse -inf (or keeps what it had).
    void attention_forward(const AttentionResult& result, const AttentionInputs& inputs, const Windows& windows,
                           const AttentionPlace& place, bool accumulate);
    /// gradients += those of the inputs. May be called once per piece of keys.
    void attention_backward(const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                            const Windows& windows, const AttentionPlace& place);
    /// One result of two, of the same queries over different keys: for every query t and head h with sums a = lse[h,t],
    /// b = other.lse[h,t], lse = m = log(exp(a) + exp(b)), out[t,h,..] = exp(a - m) * out + exp(b - m) * other.out.
    /// Nothing changes where b = -inf (the other saw no key); out and lse become the other's where only a = -inf. All
    /// are float32, rows may be strided; E follows from the shapes.
    void merge_attention(const AttentionResult& result, const ConstAttentionResult& other);

    /// out = silu(gate) * up, silu(x) = x / (1 + exp(-x)). out may be gate or up.
    void swiglu_forward(Tensor out, const SwigluInputs& inputs);
    /// d_gate = d_out * up * silu'(gate), d_up = d_out * silu(gate). Overwrites; d_gate may be gate, d_up may be up or
    /// d_out.
    void swiglu_backward(const SwigluGradients& gradients, const SwigluBackwardInputs& inputs);

    /// loss_sum += sum over rows with label >= 0 of (log sum exp(logits) - logits[label]), in float64 (scalar). labels
    /// (T) int32, -1 = not counted. gradient: logits become scale * (softmax - onehot), 0 for rows not counted. logits
    /// (T,V) real, statistics in fp32.
    void cross_entropy(Tensor loss_sum, Tensor logits, ConstTensor labels, float scale, bool gradient);

    /// sum += sum x^2 in float64 (scalar); x real or float32.
    void sum_squares(Tensor sum, ConstTensor x);
    /// scale (float32 scalar) = min(1, max_norm / (sqrt(sum_squares) + 1e-6)), 1 when max_norm <= 0; NaN if sum_squares
    /// or loss_sum is not finite.
    void clip_scale(Tensor scale, const ClipInputs& inputs, double max_norm);
    /// One AdamW step (Loshchilov, Hutter 2019; PyTorch's order): g = scale * grad; master *= 1 - lr * weight_decay; m,
    /// v moments; master -= lr * m_hat / (sqrt(v_hat) + eps); weight = master, rounded. Does nothing at all when scale
    /// is NaN.
    void adamw(const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options);

    /// x = value.
    void fill(Tensor x, float value);
    /// y += alpha * x; y, x real or float64 scalars; same shape.
    void add(Tensor y, ConstTensor x, float alpha = 1);
    /// y = x converted to y's type; same shape; real, or any equal types.
    void copy(Tensor y, ConstTensor x);

private:
    template <class Call> void run(const char* name, double flops, double bytes, Call&& call);
    Device& device_;
    OpsBackend* backend_;
    int stream_;
};

/// What a backend implements. Arguments are checked already; names and meanings are those of Ops.
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
    /// delta (H,T) float32 is workspace for sum_e d_out * out.
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
    virtual void synchronize(int stream) = 0;  ///< for Recorder::time
};

}  // namespace longlora
