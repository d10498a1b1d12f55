// Ops: THE contract of what a device computes. Each operation says its formula, shapes, what may alias, whether it
// overwrites or accumulates. The functions here check shapes, types and aliasing once, record FLOPs and bytes, then
// call the backend. All operations are deterministic: same inputs, instruction set and thread count give the same bits.
// Sums over rows are in fp32 or better.
//
// Shapes: T tokens, D hidden, F intermediate, V vocabulary, H heads, K key/value heads, E head_dim, N context length.
// Types: "real" is float32 or bfloat16. Order: outputs, inputs, scalars. Inputs never alias outputs unless said.
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

class Ops {
public:
    Ops(Device& device, OpsBackend* backend, int stream) : device_(device), backend_(backend), stream_(stream) {}

    /// out(M,N) = alpha * op(a)(M,K) op(b)(K,N) + beta * out; op transposes or not. Sums in fp32. beta == 0 overwrites
    /// (NaNs in out do not survive). out, a, b real, any mix: a bfloat16 operand beside a float32 one is widened a
    /// panel at a time. Row strides allowed.
    void matmul(Tensor out, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b, float alpha = 1,
                float beta = 0);

    /// out[t] = table[ids[t]]. out (T,D) real, table (V,D) real, ids (T) int32 in [0, V) (not checked on the device).
    /// Overwrites.
    void embedding_forward(Tensor out, Tensor table, Tensor ids);
    /// d_table[ids[t]] += d_out[t], in the order of t. d_table (V,D) float32.
    void embedding_backward(Tensor d_table, Tensor d_out, Tensor ids);

    /// y = x * rrms * weight, rrms[t] = 1 / sqrt(mean_d x[t,d]^2 + eps). Overwrites y (T,D) and rrms (T) float32. y may
    /// be x. Statistics in fp32.
    void rmsnorm_forward(Tensor y, Tensor rrms, Tensor x, Tensor weight, float eps);
    /// d_x += d(y)/d(x)^T d_y; d_weight += sum_t d_y * x * rrms (float32 (D); an empty Tensor skips it). d_x may not be
    /// d_y.
    void rmsnorm_backward(Tensor d_x, Tensor d_weight, Tensor d_y, Tensor x, Tensor weight, Tensor rrms);

    /// In place on x (T, heads * E): each pair (i, i + E/2) of a head is turned by the angle of its position,
    /// (a, b) -> (a c - b s, b c + a s), c = cos[p, i], s = sin[p, i], p = position_begin + row (Hugging Face's
    /// half-split layout). cos, sin (positions, E/2) float32. inverse: s is negated, which is the backward (transposed)
    /// operation.
    void rotary(Tensor x, Tensor cos, Tensor sin, std::int64_t head_dim, std::int64_t position_begin, bool inverse);

    /// One sequence. out[t,h] = sum_j p[t,h,j] v[j, h/(H/K)], p = softmax over visible j of scale * q[t,h].k[j,..]; lse
    /// = log sum exp of the scores. out (T,H*E) real, lse (H,T) float32, q (T,H*E), k and v (S,K*E), real, all rows may
    /// be strided. Visible: windows, with t = query_begin + row, j = key_begin + row. accumulate: merges with the
    /// earlier partial result in out and lse (then out is float32): keys may arrive in pieces in any order. A query
    /// without visible key gets out 0, lse -inf (or keeps what it had).
    void attention_forward(Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, const Windows& windows,
                           const AttentionPlace& place, bool accumulate);
    /// d_q, d_k, d_v += gradients, given d_out and the whole (all pieces merged) out and lse. May be called once per
    /// piece of keys. d_q (T,H*E), d_k, d_v (S,K*E): float32, or the type of q when there is one piece only.
    void attention_backward(Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_out, Tensor out, Tensor lse, Tensor q,
                            Tensor k, Tensor v, const Windows& windows, const AttentionPlace& place);
    /// One result of two, of the same queries over different keys: for every query t and head h with sums a = lse[h,t],
    /// b = other_lse[h,t], lse = m = log(exp(a) + exp(b)), out[t,h,..] = exp(a - m) * out + exp(b - m) * other_out.
    /// Nothing changes where b = -inf (the other saw no key); out and lse become the other's where only a = -inf. out,
    /// other_out (T,H*E), lse, other_lse (H,T), all float32, rows may be strided; E follows from the shapes.
    void merge_attention(Tensor out, Tensor lse, Tensor other_out, Tensor other_lse);

    /// out = silu(gate) * up, silu(x) = x / (1 + exp(-x)). out may be gate or up.
    void swiglu_forward(Tensor out, Tensor gate, Tensor up);
    /// d_gate = d_out * up * silu'(gate), d_up = d_out * silu(gate). Overwrites; d_gate may be gate, d_up may be up or
    /// d_out.
    void swiglu_backward(Tensor d_gate, Tensor d_up, Tensor d_out, Tensor gate, Tensor up);

    /// loss_sum += sum over rows with label >= 0 of (log sum exp(logits) - logits[label]), in float64 (scalar). labels
    /// (T) int32, -1 = not counted. gradient: logits become scale * (softmax - onehot), 0 for rows not counted. logits
    /// (T,V) real, statistics in fp32.
    void cross_entropy(Tensor loss_sum, Tensor logits, Tensor labels, float scale, bool gradient);

    /// sum += sum x^2 in float64 (scalar); x real or float32.
    void sum_squares(Tensor sum, Tensor x);
    /// scale (float32 scalar) = min(1, max_norm / (sqrt(sum_squares) + 1e-6)), 1 when max_norm <= 0; NaN if sum_squares
    /// or loss_sum (float64 scalars) is not finite.
    void clip_scale(Tensor scale, Tensor sum_squares, Tensor loss_sum, double max_norm);
    /// One AdamW step (Loshchilov, Hutter 2019; PyTorch's order): g = scale * grad; master *= 1 - lr * weight_decay; m,
    /// v moments; master -= lr * m_hat / (sqrt(v_hat) + eps). master, m, v, grad (n) float32; weight (n) real gets the
    /// rounded master (empty Tensor: none). Does nothing at all when scale is NaN.
    void adamw(Tensor master, Tensor m, Tensor v, Tensor weight, Tensor grad, Tensor scale,
               const AdamwOptions& options);

    /// x = value.
    void fill(Tensor x, float value);
    /// y += alpha * x; y, x real or float64 scalars; same shape.
    void add(Tensor y, Tensor x, float alpha = 1);
    /// y = x converted to y's type; same shape; real, or any equal types.
    void copy(Tensor y, Tensor x);

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
    virtual void matmul(int stream, Tensor out, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b,
                        float alpha, float beta) = 0;
    virtual void embedding_forward(int stream, Tensor out, Tensor table, Tensor ids) = 0;
    virtual void embedding_backward(int stream, Tensor d_table, Tensor d_out, Tensor ids) = 0;
    virtual void rmsnorm_forward(int stream, Tensor y, Tensor rrms, Tensor x, Tensor weight, float eps) = 0;
    virtual void rmsnorm_backward(int stream, Tensor d_x, Tensor d_weight, Tensor d_y, Tensor x, Tensor weight,
                                  Tensor rrms) = 0;
    virtual void rotary(int stream, Tensor x, Tensor cos, Tensor sin, std::int64_t head_dim,
                        std::int64_t position_begin, bool inverse) = 0;
    virtual void attention_forward(int stream, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                                   const Windows& windows, const AttentionPlace& place, bool accumulate) = 0;
    /// delta (H,T) float32 is workspace for sum_e d_out * out.
    virtual void attention_backward(int stream, Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_out, Tensor out,
                                    Tensor lse, Tensor q, Tensor k, Tensor v, const Windows& windows,
                                    const AttentionPlace& place, Tensor delta) = 0;
    virtual void merge_attention(int stream, Tensor out, Tensor lse, Tensor other_out, Tensor other_lse) = 0;
    virtual void swiglu_forward(int stream, Tensor out, Tensor gate, Tensor up) = 0;
    virtual void swiglu_backward(int stream, Tensor d_gate, Tensor d_up, Tensor d_out, Tensor gate, Tensor up) = 0;
    virtual void cross_entropy(int stream, Tensor loss_sum, Tensor logits, Tensor labels, float scale,
                               bool gradient) = 0;
    virtual void sum_squares(int stream, Tensor sum, Tensor x) = 0;
    virtual void clip_scale(int stream, Tensor scale, Tensor sum_squares, Tensor loss_sum, double max_norm) = 0;
    virtual void adamw(int stream, Tensor master, Tensor m, Tensor v, Tensor weight, Tensor grad, Tensor scale,
                       const AdamwOptions& options) = 0;
    virtual void fill(int stream, Tensor x, float value) = 0;
    virtual void add(int stream, Tensor y, Tensor x, float alpha) = 0;
    virtual void copy(int stream, Tensor y, Tensor x) = 0;
    virtual void synchronize(int stream) = 0;  ///< for Recorder::time
};

}  // namespace longlora
